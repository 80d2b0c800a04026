/**
 * The long part of an attach, as a job: every row that was there gets its version, all of them reach all nodes, and that is looked at before the job says
 * done. A repetition from any checkpoint is harmless: what has a version is passed over, and what was verified stays so.
 */
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import type { JobHandle, JobNode, JobWork } from '../jobs/job.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { quoteTable } from '../postgres/identifier.ts';
import { backfill, type KeyPlace } from './backfill.pg.ts';
import { readCollection, type CollectionRow } from './catalog.pg.ts';
import type { StampedTable } from './unversioned-rows.ts';
import { verifyAttached } from './verify-attached.pg.ts';

export const attachJob = 'attach';

export interface AttachJobOptions {
  readonly batchRows?: number;
  /** How long nothing may arrive anywhere before the job gives up. */
  readonly stillMs?: number;
}

interface Progress {
  /** Which version tables this is about: a table that was detached and attached again has others, and none of its rows has a version. */
  readonly of: string;
  readonly phase: 'stamp' | 'verify';
  /** Place of the node in the list, and the key after which to go on there. */
  readonly node: number;
  readonly after: KeyPlace;
  /** As in RoundPlace. */
  readonly left: number;
  readonly done: number;
  readonly stamped: number;
  readonly agreed: number;
}

const beginning: Omit<Progress, 'of'> = {
  phase: 'stamp',
  node: 0,
  after: null,
  left: 0,
  done: 0,
  stamped: 0,
  agreed: 0,
};

const countedMax = 1_000_000;

/** A batch with large keys and hashes takes seconds at most; silence means that the node is gone. */
const answerWithinMs = 120_000;

export const attachWork =
  ({ batchRows = 1000, stillMs = 120_000 }: AttachJobOptions = {}): JobWork =>
  async (job, { nodes }) => {
    const { collection } = job.arguments as { readonly collection: string };
    const clients: pg.Client[] = [];
    try {
      for (const node of nodes)
        clients.push(
          await connect(node.address, { application: `pgquorum attach ${collection}`, answerWithinMs }),
        );
      for (const client of clients) await client.query('set jit = off'); // short statements, of which some look long
      return await new Attaching({ job, nodes, clients, batchRows, stillMs }, collection).run();
    } finally {
      await Promise.all(clients.map((client) => closeClient(client)));
    }
  };

interface Place extends Required<AttachJobOptions> {
  readonly job: JobHandle;
  readonly nodes: readonly JobNode[];
  readonly clients: readonly pg.Client[];
}

class Attaching {
  readonly #place: Place;
  readonly #collection: string;
  #at: Progress;
  #total: number | undefined;

  constructor(place: Place, collection: string) {
    this.#place = place;
    this.#collection = collection;
    this.#at = (place.job.checkpoint as Progress | null) ?? { ...beginning, of: '' };
  }

  async run(): Promise<unknown> {
    for (;;) {
      const of = await this.#versionTables();
      if (this.#at.of !== of) this.#at = { ...beginning, of };
      const result = await this.#attach();
      if ((await this.#versionTables()) === of) return result;
    }
  }

  async #versionTables(): Promise<string> {
    const oids = await Promise.all(
      this.#place.clients.map((client) =>
        client.query<{ oid: string | null }>(
          `select to_regclass(format('pgquorum.%I', 'version_' || $1::text))::oid::text as oid`,
          [this.#collection],
        ),
      ),
    );
    return oids.map(({ rows }) => rows[0]!.oid ?? 'none').join(' ');
  }

  async #attach(): Promise<unknown> {
    const { clients } = this.#place;
    const { table, definition } = await this.#read(clients[0]!);
    const stamped: StampedTable = { ...table, updatedAt: definition.attached!.updatedAt };
    const columns = await writableColumns(clients[0]!, table);
    const withRows = await Promise.all(clients.map((client) => hasRows(client, table)));
    const counts = await Promise.all(clients.map((client) => rowsEstimated(client, table)));
    // In the end every node has what any of them has, and all of it is looked at twice.
    const most = Math.max(...counts);
    this.#total = Number.isNaN(most) ? undefined : most * clients.length * 2;
    if (this.#at.phase === 'stamp') {
      await this.#stamp(stamped, columns, withRows);
      await this.#note({ ...this.#at, phase: 'verify', node: 0, after: null });
    }
    await this.#verify(stamped, columns);
    return { collection: this.#collection, stamped: this.#at.stamped, same: this.#at.agreed };
  }

  async #read(client: pg.Client): Promise<CollectionRow> {
    const found = await readCollection(client, this.#collection);
    if (found?.definition.attached === undefined)
      throw new PgquorumError(
        'collection_not_found',
        `collection ${this.#collection} is not attached (any more)`,
      );
    return found;
  }

  async #stamp(table: StampedTable, columns: readonly string[], withRows: readonly boolean[]): Promise<void> {
    const { clients, job, batchRows } = this.#place;
    const log = await clients[0]!.query<{ log: string }>('select log from pgquorum.node');
    for (let node = this.#at.node; node < clients.length; node += 1) {
      const others = clients.filter((_, at) => at !== node && withRows[at]);
      await backfill({
        client: clients[node]!,
        table,
        others,
        columns,
        mayKeep: log.rows[0]!.log === 'wal' && others.length === clients.length - 1,
        from:
          this.#at.node === node ? { after: this.#at.after, left: this.#at.left } : { after: null, left: 0 },
        batchRows,
        signal: job.signal,
        onBatch: ({ scanned, stamped, agreed, at }) =>
          this.#note({
            ...this.#at,
            node,
            ...at,
            done: this.#at.done + scanned,
            stamped: this.#at.stamped + stamped,
            agreed: this.#at.agreed + agreed,
          }),
      });
    }
  }

  async #verify(table: StampedTable, columns: readonly string[]): Promise<void> {
    const { clients, nodes, job, batchRows, stillMs } = this.#place;
    const named = clients.map((client, at) => ({ client, name: nodes[at]!.name }));
    for (let node = this.#at.node; node < named.length; node += 1)
      await verifyAttached({
        from: named[node]!,
        others: named.filter((_, at) => at !== node),
        table,
        columns,
        after: this.#at.node === node ? this.#at.after : null,
        batchRows,
        stillMs,
        signal: job.signal,
        onBatch: ({ checked, after }) =>
          this.#note({ ...this.#at, node, after, done: this.#at.done + checked }),
      });
  }

  async #note(progress: Progress): Promise<void> {
    this.#at = progress;
    await this.#place.job.report(
      {
        done: progress.done,
        total: this.#total === undefined ? undefined : Math.max(this.#total, progress.done),
        unit: 'rows',
      },
      progress,
    );
  }
}

async function writableColumns(
  client: pg.Client,
  table: StampedTable | CollectionRow['table'],
): Promise<string[]> {
  const rows = await client.query<{ name: string }>(
    `select a.attname as name from pg_attribute a where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''`,
    [quoteTable({ schema: table.schema, name: table.table })],
  );
  return rows.rows.map(({ name }) => name);
}

async function hasRows(client: pg.Client, table: CollectionRow['table']): Promise<boolean> {
  const rows = await client.query(
    `select from ${quoteTable({ schema: table.schema, name: table.table })} limit 1`,
  );
  return rows.rows.length > 0;
}

/** What the planner thinks; a table that it has never looked at is counted, if that is soon done. */
async function rowsEstimated(client: pg.Client, table: CollectionRow['table']): Promise<number> {
  const target = quoteTable({ schema: table.schema, name: table.table });
  const guess = await client.query<{ rows: number }>(
    'select reltuples::float8 as rows from pg_class where oid = $1::regclass',
    [target],
  );
  if (guess.rows[0]!.rows >= 0) return Math.round(guess.rows[0]!.rows);
  const counted = await client.query<{ rows: number }>(
    `select count(*)::int as rows from (select from ${target} limit ${countedMax}) counted`,
  );
  return counted.rows[0]!.rows < countedMax ? counted.rows[0]!.rows : NaN;
}
