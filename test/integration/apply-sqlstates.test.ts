/** What each SQLSTATE does to the change that met it: on a real server, in collections side by side, each of which has its own trouble. */
import { expect, test } from '@jest/globals';
import { ApplySession } from '#core/apply/session.pg.ts';
import { applyTransaction } from '#core/apply/transaction.pg.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { SlotReading } from '#core/testing/slot-reading.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';

type Outcome = 'waits' | 'paused' | 'dead letter';

const outcomes: Readonly<Record<Outcome, readonly string[]>> = {
  waits: [
    '40001', // serialization_failure
    '40P01', // deadlock_detected
    '55P03', // lock_not_available
    '57014', // query_canceled
    '55000', // object_not_in_prerequisite_state
    '55006', // object_in_use
    '25006', // read_only_sql_transaction
    '25P03', // idle_in_transaction_session_timeout
    // Said of another server's connection, by a trigger that asks it: ours is well.
    '08000',
    '08001',
    '08006',
    '53300',
    '57P01',
    '57P02',
    '57P03',
    // For a while, since the other row may be on its way.
    '23503',
    '23505',
    '23P01',
  ],
  paused: [
    '42P01', // undefined_table
    '42703', // undefined_column
    '42804', // datatype_mismatch
    '42883', // undefined_function
    '42501', // insufficient_privilege
    '428C9', // generated_always
    '3F000', // invalid_schema_name
    '0A000', // feature_not_supported
    '28000', // invalid_authorization_specification
    '53100', // disk_full
    '53200', // out_of_memory
    '58030', // io_error
    'XX001', // data_corrupted
    'ZZ999', // nobody knows
  ],
  'dead letter': [
    '22001', // string_data_right_truncation
    '22003', // numeric_value_out_of_range
    '22012', // division_by_zero
    '22P02', // invalid_text_representation
    '23502', // not_null_violation
    '23514', // check_violation
    '44000', // with_check_option_violation
    '54000', // program_limit_exceeded
    'P0001', // raise_exception
  ],
};
const states = Object.values(outcomes).flat();
const collectionOf = (state: string): string => `c_${state.toLowerCase()}`;

/** A trigger of a user that raises what stands in a table, while it does. */
const troubleSql = `create table trouble (collection text primary key, state text not null);
  create function trouble() returns trigger language plpgsql as $$
  declare named text := (select t.state from public.trouble t where t.collection = tg_table_name);
  begin
    if named is not null then raise exception 'trouble of %', tg_table_name using errcode = named; end if;
    return new;
  end $$`;
const troubled = (collection: string): string =>
  `create trigger trouble before insert or update on ${collection} for each row execute function trouble()`;

async function outcomesOf(cluster: TestCluster): Promise<Record<string, string>> {
  const found = await cluster.query<{ collection: string; outcome: Outcome; state: string | null }>(
    1,
    `select collection, 'paused' as outcome, sqlstate as state from pgquorum.pause
     union all select collection, 'dead letter', sqlstate from pgquorum.dead_letter
     union all select p.collection, 'waits', null from pgquorum.parked p where not exists (select from pgquorum.pause u where u.collection = p.collection)`,
  );
  return Object.fromEntries(
    found.map(({ collection, outcome, state }) => [
      collection,
      state === null || collectionOf(state) === collection ? outcome : `${outcome} for ${state}`,
    ]),
  );
}

test('each collection waits, is paused or gives up a change as its SQLSTATE says; none stops another, and nothing is lost', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['steady'] });
  await Promise.all(states.map((state) => cluster.create(collectionOf(state))));
  await cluster.query(1, troubleSql);
  for (const state of states) {
    await cluster.query(1, troubled(collectionOf(state)));
    await cluster.query(1, 'insert into trouble values ($1, $2)', [collectionOf(state), state]);
  }
  cluster.edge(0, 1);
  // In one transaction, and so in one batch of the applier.
  await cluster.query(
    0,
    `begin; ${states.map((state) => `insert into ${collectionOf(state)} values ('k', '[1,2,3]');`).join(' ')} insert into steady values ('k', '[1,2,3]'); commit`,
  );
  await cluster.query(0, `insert into steady values ('later', '[1,2,3]')`);
  await cluster.caughtUp({ withinMs: 60_000 });
  const expected = Object.entries(outcomes).flatMap(([outcome, of]) =>
    of.map((state) => [collectionOf(state), outcome]),
  );
  expect(await outcomesOf(cluster)).toEqual(Object.fromEntries(expected));
  expect(await cluster.query(1, 'select id from steady order by id')).toEqual([{ id: 'k' }, { id: 'later' }]);
  // Without the trouble what waits arrives by itself; what was given up stays a letter.
  await cluster.query(1, 'delete from trouble');
  await eventually('all that waited has arrived', async () => {
    const left = Object.values(await outcomesOf(cluster));
    return left.length === outcomes['dead letter'].length && left.every((one) => one === 'dead letter');
  });
  for (const state of [...outcomes.waits, ...outcomes.paused]) {
    const [origin, target] = await cluster.states(collectionOf(state));
    expect(target).toEqual(origin);
  }
  expect(cluster.edges[0]!.failures).toEqual([]);
}, 120_000);

test('no error leaks into the next transaction of its session', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs', 'others'] });
  await cluster.query(1, troubleSql);
  await cluster.query(1, troubled('docs'));
  await using reading = await SlotReading.start(cluster);
  const session = await ApplySession.open({
    node: cluster.nodes[1]!.address,
    application: 'pgquorum apply test',
    originName: null,
  });
  try {
    const settings = async () =>
      (
        await session.client.query(
          `select pg_backend_pid() as pid, coalesce(nullif(current_setting('pgquorum.apply', true), ''), 'off') as apply, current_setting('lock_timeout') as lock_timeout, current_setting('session_replication_role') as role,
             now() = statement_timestamp() as alone`,
        )
      ).rows[0] as Record<string, unknown>;
    const before = await settings();
    const survivable = states.filter((state) => state !== '25006');
    for (const [at, state] of survivable.entries()) {
      await cluster.query(
        1,
        `insert into trouble values ('docs', $1) on conflict (collection) do update set state = excluded.state`,
        [state],
      );
      await cluster.query(
        0,
        `begin; insert into others values ('with ${at}', '[1,2,3]'); insert into docs values ('bad ${at}', '[1,2,3]'); commit`,
      );
      await cluster.query(0, `insert into others values ('after ${at}', '[1,2,3]')`);
      await reading.until('both', ({ writes }) => writes.length === 3 * (at + 1));
      const [withBad, bad, after] = reading.writes.slice(-3);
      const apply = (changes: typeof reading.writes) =>
        applyTransaction(session, { changes, progress: null, lockTimeoutMs: 300 });
      await expect(apply([withBad!, bad!])).rejects.toMatchObject({ code: state });
      expect(await settings()).toEqual(before);
      await apply([after!]);
    }
    expect(await cluster.query(1, 'select from docs')).toEqual([]);
    const kept = await cluster.query<{ id: string }>(1, 'select id from others');
    expect(kept.map(({ id }) => id).toSorted()).toEqual(survivable.map((_, at) => `after ${at}`).toSorted());
  } finally {
    await session.close();
  }
}, 120_000);

test('a session that is ended, a database that takes no writes and a lock that is held for long only delay', async () => {
  await using cluster = await foundTestCluster({ count: 2, collections: ['docs', 'others'] });
  cluster.edge(0, 1);
  await cluster.query(0, `insert into docs values ('a', '[1,2,3]')`);
  await cluster.caughtUp();
  const end = () =>
    cluster.query<{ ended: boolean }>(
      1,
      `select pg_terminate_backend(pid) as ended from pg_stat_activity where datname = current_database() and application_name like 'pgquorum apply%'`,
    );
  expect(await end()).toContainEqual({ ended: true });
  await cluster.query(0, `update docs set metadata = '{"n":1}'`);
  await cluster.caughtUp();
  // Sessions take a database's setting when they begin: those of before are ended.
  const [{ name }] = (await cluster.query<{ name: string }>(1, 'select current_database() as name')) as [
    { name: string },
  ];
  const readOnly = (set: 'on' | 'off') =>
    cluster.asSuper(
      1,
      `begin read write; alter database "${name}" set default_transaction_read_only = ${set}; commit`,
    );
  const rollbacks = async (): Promise<number> => {
    const [row] = await cluster.query<{ n: number }>(
      1,
      'select xact_rollback::int as n from pg_stat_database where datname = current_database()',
    );
    return row!.n;
  };
  await readOnly('on');
  await end();
  const before = await rollbacks();
  await cluster.query(0, `update docs set metadata = '{"n":2}'`);
  await eventually('it was refused', async () => (await rollbacks()) > before);
  expect(await cluster.query(1, 'select metadata from docs')).toEqual([{ metadata: { n: 1 } }]);
  await readOnly('off');
  await cluster.caughtUp();
  // A user holds a row: its change waits aside, others go on.
  const user = await cluster.client(1);
  await user.query('begin; select from docs for update');
  await cluster.query(0, `update docs set metadata = '{"n":3}'`);
  await cluster.query(0, `insert into others values ('beside', '[1,2,3]')`);
  await cluster.caughtUp();
  expect(await cluster.query(1, 'select id from others')).toEqual([{ id: 'beside' }]);
  expect(await outcomesOf(cluster)).toEqual({ docs: 'waits' });
  await user.query('rollback');
  await eventually('it has arrived', async () => Object.keys(await outcomesOf(cluster)).length === 0);
  for (const collection of ['docs', 'others']) {
    const [origin, target] = await cluster.states(collection);
    expect(target).toEqual(origin);
  }
}, 120_000);
