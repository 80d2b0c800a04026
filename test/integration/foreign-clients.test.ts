/**
 * Applications that know nothing of pgquorum, on libraries that nobody here wrote, go on unchanged while their tables are attached: they work on one master,
 * before, during and after, and migrate their schema; the others follow and show them the same.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { isPgquorumError } from '#core/errors/error.ts';
import { foundTestCluster, type TestCluster } from '#core/testing/cluster.pg.ts';
import { eventually } from '#core/testing/wait.process.ts';
import { attach, rowsOf, runAttachJob, startAttachJob } from './attach/attaching.ts';
import { pythonClientsProblem, runClients, type Step } from './foreign-clients/python-clients.ts';

const problem = await pythonClientsProblem();
if (problem !== undefined) process.stderr.write(`skipped: clients in Python (${problem})\n`);

let cluster: TestCluster;
const url = (place: number): string => cluster.masters[place]!.url;
const tables = ['authors', 'documents', 'notes'];

(problem === undefined ? describe : describe.skip)('applications in Python', () => {
  beforeAll(async () => {
    cluster = await foundTestCluster({ count: 3 });
    cluster.replicate();
  }, 60_000);
  afterAll(() => cluster[Symbol.asyncDispose](), 60_000);

  /** All masters hold the same rows, and nothing was put aside. */
  const same = () =>
    eventually(
      'all masters hold the same rows',
      async () => {
        for (const table of tables) {
          const [one, ...others] = await Promise.all([0, 1, 2].map((place) => rowsOf(cluster, place, table)));
          if (others.some((rows) => JSON.stringify(rows) !== JSON.stringify(one))) return false;
        }
        return true;
      },
      { withinMs: 60_000, everyMs: 200 },
    );

  test('SQLAlchemy with Alembic and a store of LangChain work on one master while the others follow', async () => {
    // The application's own migrations make its tables, with a foreign key and numbers from a sequence, on every master.
    await runClients(
      ...[0, 1, 2].map((place): Step => ['orm', 'migrate', url(place), '0001']),
      ['store', 'make', url(0)],
      ['orm', 'work', url(0), 1],
      ['store', 'work', url(0), 1],
    );
    await setApart('authors');
    for (const table of tables) await attach(cluster, table, { table: `public.${table}` });
    const jobs = await Promise.all(tables.map((table) => startAttachJob(cluster, table)));
    const [, ...ended] = await Promise.all([
      runClients(['orm', 'work', url(0), 2], ['store', 'work', url(0), 2]),
      ...jobs.map((job) => runAttachJob(cluster, job)),
    ]);
    expect(ended.map(({ state, error }) => [state, error])).toEqual(tables.map(() => ['done', null]));

    // A migration while it is attached: the followers first.
    const [seen, found] = (
      await runClients(
        ...[2, 1, 0].map((place): Step => ['orm', 'migrate', url(place), 'head']),
        ['orm', 'work', url(0), 3],
        ['store', 'work', url(0), 3],
      )
    ).slice(3);
    await same();
    expect((seen as { authors: unknown[] }).authors).toEqual([1, 2, 3].map((turn) => [`author ${turn}`, 49]));
    expect(found).toHaveLength(5);
    for (const place of [1, 2]) {
      expect(await cluster.query(place, 'select count(rating)::int as n from documents')).toEqual([
        { n: 147 },
      ]);
      expect(await cluster.query(place, 'select from pgquorum.dead_letter')).toEqual([]);
      expect(await cluster.query(place, 'select from pgquorum.conflict')).toEqual([]);
    }
    // The others show the same, and one of them takes the applications over.
    const elsewhere = await runClients(
      ...[1, 2].flatMap((place): Step[] => [
        ['orm', 'read', url(place)],
        ['store', 'search', url(place)],
      ]),
      ['orm', 'work', url(1), 4],
      ['store', 'work', url(1), 4],
    );
    expect(elsewhere.slice(0, 4)).toEqual([seen, found, seen, found]);
    await same();
    expect(await rowsOf(cluster, 0, 'documents')).toHaveLength(4 * 49);
  }, 420_000);
});

/** Does what the refusal of a table's key tells to do. */
async function setApart(table: string): Promise<void> {
  const refused: unknown = await attach(cluster, table, { table: `public.${table}` }).then(
    () => null,
    (cause: unknown) => cause,
  );
  if (!isPgquorumError(refused)) throw refused;
  const refusals = refused.extra['refusals'] as { node: string; wayOut: string }[];
  expect(refusals).toHaveLength(3);
  for (const [place, { wayOut }] of refusals.entries())
    await cluster.query(place, /^alter sequence [^(]*/.exec(wayOut)![0]);
}
