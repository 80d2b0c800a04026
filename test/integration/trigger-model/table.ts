/**
 * A collection's table beside a model of it. Every statement is sent to Postgres and told to the model, and after each one rows, versions, open
 * losers and remembered requests are compared in full. The model is told which counter and which time the node gave; the rest it predicts.
 */
import { expect } from '@jest/globals';
import type pg from 'pg';
import { shardOf } from '#core/placement/partitioning.ts';
import { testDefinition } from '#core/testing/cluster.pg.ts';
import { hlcFromMs } from '#core/versioning/hlc.ts';
import { writeLocally } from '#core/versioning/local-write.ts';
import { absentState, type KeyState } from '#core/versioning/merge.ts';
import { join, sameClock, type Clock } from '#core/versioning/clock.ts';
import {
  dotText,
  type Epoch,
  type HlcValue,
  type NodeNumber,
  type Version,
} from '#core/versioning/version.ts';

export type Statement =
  | { readonly kind: 'insert' | 'upsert' | 'update' | 'delete' | 'merge'; readonly keys: readonly string[] }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string }
  | { readonly kind: 'truncate' };

export type Step =
  | {
      readonly kind: 'transaction';
      readonly statements: readonly Statement[];
      readonly ends: 'commit' | 'rollback';
      readonly request: string | null;
    }
  /** What apply leaves behind: another node's version, with more seen than that had seen, maybe counters of ours that the sequence has not reached. */
  | {
      readonly kind: 'arrival';
      readonly key: string;
      readonly origin: number;
      readonly rank: number;
      readonly epoch: number;
      readonly aheadMs: number;
      readonly ownAhead: number;
    }
  | { readonly kind: 'loser'; readonly key: string; readonly origin: number }
  | { readonly kind: 'horizon'; readonly aheadMs: number };

type State = KeyState<null>;

interface Model {
  readonly rows: ReadonlySet<string>;
  readonly states: ReadonlyMap<string, State>;
  /** `key request dot` */
  readonly requests: ReadonlySet<string>;
}

interface VersionRow {
  readonly id: string;
  readonly rank: number;
  readonly epoch: string;
  readonly hlc: string;
  readonly origin: number;
  readonly counter: string;
  readonly clock: Clock;
  readonly seen: Clock | null;
  readonly deleted: boolean;
  readonly applied: boolean;
  readonly shard: number;
  readonly request: string | null;
  readonly crdt: unknown;
}

const me = 1 as NodeNumber;
const embedding = '[1,2,3]';

export class ModelledTable {
  readonly #client: pg.Client;
  readonly #name: string;
  #model: Model = { rows: new Set(), states: new Map(), requests: new Set() };
  #horizon: HlcValue | null = null;
  /** Every dot of ours that any statement was given, in transactions that were rolled back too. */
  readonly #dots = new Set<string>();
  /** Counters of other nodes only have to differ. */
  #counter = 0;

  constructor(client: pg.Client, name: string) {
    this.#client = client;
    this.#name = name;
  }

  async take(step: Step): Promise<void> {
    switch (step.kind) {
      case 'transaction':
        return this.#transaction(step);
      case 'arrival':
        return this.#arrival(step);
      case 'loser':
        return this.#loser(step);
      case 'horizon':
        return this.#raiseHorizon(step);
    }
  }

  async #transaction({ statements, ends, request }: Step & { kind: 'transaction' }): Promise<void> {
    const before = this.#model;
    await this.#client.query('begin');
    if (request !== null)
      await this.#client.query(`select set_config('pgquorum.request', $1, true)`, [request]);
    for (const statement of statements) await this.#statement(statement, request);
    await this.#client.query(ends);
    if (ends === 'rollback') {
      this.#model = before;
      await this.#compare();
    }
  }

  async #statement(statement: Statement, request: string | null): Promise<void> {
    const planned = planOf(statement, this.#model.rows);
    const began = await this.#nowHlc();
    await this.#client.query(
      planned.text.replaceAll('docs', `public.${this.#name}`),
      planned.values as unknown[],
    );
    const ended = await this.#nowHlc();
    const found = await this.#versions();
    const states = new Map(this.#model.states);
    const requests = new Set(this.#model.requests);
    for (const key of planned.touched) {
      const given = found.get(key);
      if (given === undefined) throw new Error(`${JSON.stringify(key)} was written and has no version`);
      const hlc = BigInt(given.hlc) as HlcValue;
      const { state } = writeLocally<null>(states.get(key) ?? absentState, {
        node: me,
        // Only the node knows when it looked at its clock. It is between, or what it says is not from its clock.
        now: hlc >= began && hlc <= ended ? hlc : began,
        drawn: Number(given.counter),
        deleted: !planned.rows.has(key),
        row: null,
        request,
        purgeHorizon: this.#horizon,
      });
      states.set(key, state);
      const dot = dotText(state.winner.version.dot);
      expect(this.#dots).not.toContain(dot);
      this.#dots.add(dot);
      if (request !== null) requests.add(`${key} ${request} ${dot}`);
    }
    this.#model = { rows: planned.rows, states, requests };
    await this.#compare();
  }

  async #arrival(step: Step & { kind: 'arrival' }): Promise<void> {
    const state = this.#model.states.get(step.key);
    if (state?.winner == null) return;
    const counter = ++this.#counter;
    const own = (state.seen[me] ?? 0) + step.ownAhead;
    const version: Version = {
      rank: step.rank,
      epoch: BigInt(step.epoch) as Epoch,
      hlc: hlcFromMs(Date.now() + step.aheadMs),
      dot: { origin: step.origin as NodeNumber, counter },
      clock: { [step.origin]: counter },
      deleted: state.winner.version.deleted,
      request: null,
      crdt: null,
    };
    const seen: Clock = { ...state.seen, [me]: own, [step.origin]: counter };
    await this.#client.query(
      `update pgquorum.version_${this.#name} set rank = $2, epoch = $3, hlc = $4, origin = $5, counter = $6, clock = $7, seen = $8, applied = true, request = null where id = $1`,
      [
        step.key,
        version.rank,
        String(version.epoch),
        String(version.hlc),
        step.origin,
        counter,
        version.clock,
        seen,
      ],
    );
    this.#setState(step.key, { winner: { version, row: null }, seen, losers: state.losers });
    await this.#compare();
  }

  async #loser({ key, origin }: Step & { kind: 'loser' }): Promise<void> {
    const state = this.#model.states.get(key);
    if (state?.winner == null) return;
    const counter = ++this.#counter;
    const version: Version = {
      ...state.winner.version,
      hlc: 1n as HlcValue,
      dot: { origin: origin as NodeNumber, counter },
      clock: { [origin]: counter },
    };
    await this.#client.query(
      `insert into pgquorum.conflict (id, collection, key, key_texts, shard, kind, loser_rank, loser_epoch, loser_hlc, loser_origin, loser_counter, loser_clock, loser_deleted,
         winner_hlc, winner_origin, winner_counter, state, state_hlc, state_origin, decided_by, reason, applied)
       values (gen_random_uuid(), $1, $2, jsonb_build_array($2::text), 0, 'update-update', 0, 0, 1, $3, $4, $5, false, 2, 1, 1, 'open', 2, 1, 'lww', 'test', true)`,
      [this.#name, key, origin, counter, version.clock],
    );
    const seen = join(state.seen, version.clock);
    await this.#client.query(`update pgquorum.version_${this.#name} set seen = $2 where id = $1`, [
      key,
      seen,
    ]);
    this.#setState(key, { ...state, seen, losers: [...state.losers, { version, row: null }] });
    await this.#compare();
  }

  async #raiseHorizon({ aheadMs }: Step & { kind: 'horizon' }): Promise<void> {
    const hlc = hlcFromMs(Date.now() + aheadMs);
    await this.#client.query(
      `insert into pgquorum.horizon (collection, shard, hlc) values ($1, 0, $2)
       on conflict (collection, shard) do update set hlc = greatest(horizon.hlc, excluded.hlc)`,
      [this.#name, String(hlc)],
    );
    if (this.#horizon === null || hlc > this.#horizon) this.#horizon = hlc;
  }

  #setState(key: string, state: State): void {
    this.#model = { ...this.#model, states: new Map([...this.#model.states, [key, state]]) };
  }

  async #compare(): Promise<void> {
    const { rows, states, requests } = this.#model;
    const ids = await this.#client.query<{ id: string }>(`select id from public.${this.#name}`);
    expect(new Set(ids.rows.map(({ id }) => id))).toEqual(rows);
    expect(await this.#versions()).toEqual(
      new Map([...states].map(([key, state]) => [key, rowOf(key, state)])),
    );
    const open = await this.#client.query<{ loser: string }>(
      `select key || ' ' || loser_origin || '.' || loser_counter as loser from pgquorum.conflict where collection = $1 and state = 'open'`,
      [this.#name],
    );
    const losers = [...states].flatMap(([key, state]) =>
      state.losers.map(({ version }) => `${key} ${dotText(version.dot)}`),
    );
    expect(open.rows.map(({ loser }) => loser).toSorted()).toEqual(losers.toSorted());
    const remembered = await this.#client.query<{ one: string }>(
      `select key || ' ' || request || ' ' || origin || '.' || counter as one from pgquorum.request where collection = $1`,
      [this.#name],
    );
    expect(new Set(remembered.rows.map(({ one }) => one))).toEqual(requests);
  }

  async #versions(): Promise<Map<string, VersionRow>> {
    const { rows } = await this.#client.query<VersionRow>(
      `select id, rank, epoch::text, hlc::text, origin, counter::text, clock, seen, deleted, applied, shard, request, crdt from pgquorum.version_${this.#name}`,
    );
    return new Map(rows.map((row) => [row.id, row]));
  }

  async #nowHlc(): Promise<HlcValue> {
    const { rows } = await this.#client.query<{ hlc: string }>('select pgquorum.now_hlc()::text as hlc');
    return BigInt(rows[0]!.hlc) as HlcValue;
  }
}

function rowOf(key: string, { winner, seen }: State): VersionRow {
  const { version } = winner!;
  const applied = version.dot.origin !== me;
  return {
    id: key,
    rank: version.rank,
    epoch: String(version.epoch),
    hlc: String(version.hlc),
    origin: version.dot.origin,
    counter: String(version.dot.counter),
    clock: version.clock,
    seen: applied || !sameClock(seen, version.clock) ? seen : null,
    deleted: version.deleted,
    applied,
    shard: shardOf(key, testDefinition),
    request: version.request,
    crdt: null,
  };
}

interface Planned {
  readonly text: string;
  readonly values: readonly unknown[];
  /** Keys that the statement writes, which are those that get a version. */
  readonly touched: readonly string[];
  /** The rows that are there afterwards. */
  readonly rows: ReadonlySet<string>;
}

/** What a statement does to a table that holds these rows. */
function planOf(statement: Statement, rows: ReadonlySet<string>): Planned {
  switch (statement.kind) {
    case 'truncate':
      return { text: 'truncate docs', values: [], touched: [...rows], rows: new Set() };
    case 'rename': {
      const { from, to } = statement;
      // Onto a key that is there: that would be a unique violation, which ends the transaction.
      const moves = rows.has(from) && (from === to || !rows.has(to));
      return {
        text: `update docs set id = $2 where id = $1 and ($1 = $2 or not exists (select from docs where id = $2))`,
        values: [from, to],
        touched: moves ? [...new Set([from, to])] : [],
        rows: moves ? new Set([...without(rows, [from]), to]) : rows,
      };
    }
    default:
      return planOfKeys(statement, rows);
  }
}

function planOfKeys(
  { kind, keys }: Extract<Statement, { readonly keys: unknown }>,
  rows: ReadonlySet<string>,
): Planned {
  const values = [keys];
  const there = keys.filter((key) => rows.has(key));
  const absent = keys.filter((key) => !rows.has(key));
  const source = `select k, '${embedding}' from unnest($1::text[]) k`;
  switch (kind) {
    case 'insert':
      return {
        text: `insert into docs (id, embedding) ${source} on conflict do nothing`,
        values,
        touched: absent,
        rows: new Set([...rows, ...absent]),
      };
    case 'upsert':
      return {
        text: `insert into docs (id, embedding) ${source} on conflict (id) do update set embedding = excluded.embedding`,
        values,
        touched: keys,
        rows: new Set([...rows, ...keys]),
      };
    case 'update':
      return {
        text: `update docs set metadata = '{"n": 1}' where id = any($1::text[])`,
        values,
        touched: there,
        rows,
      };
    case 'delete':
      return {
        text: `delete from docs where id = any($1::text[])`,
        values,
        touched: there,
        rows: without(rows, there),
      };
    case 'merge':
      return {
        text: `merge into docs d using unnest($1::text[]) k on d.id = k when matched then delete when not matched then insert (id, embedding) values (k, '${embedding}')`,
        values,
        touched: keys,
        rows: new Set([...without(rows, there), ...absent]),
      };
  }
}

const without = (rows: ReadonlySet<string>, gone: readonly string[]): Set<string> =>
  new Set([...rows].filter((key) => !gone.includes(key)));
