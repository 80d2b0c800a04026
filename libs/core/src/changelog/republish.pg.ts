/**
 * Publishes the changes of an origin's topic again in a format for others, in a topic of its own. The masters read the first topic only: whatever happens
 * to the second one does not concern them. How far it is stands on the origin, written once what it stands for is durable: at least once, in the
 * order of the first topic for each key. One process at a time does it for an origin, under a session lock.
 */
import type pg from 'pg';
import { OriginCatalog } from '../capture/catalog.pg.ts';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import type { LogBatch, Position } from './change.ts';
import type { KnownTable } from './debezium.ts';
import type { ChangeLogReader, ChangeLogWriter, Positions } from './port.ts';

export interface RepublishOptions {
  readonly origin: ClusterNode;
  readonly format: string;
  /** Of the first topic; tells its generation from the first batch on. */
  readonly openReader: (
    generation: string | null,
  ) => ChangeLogReader & { readonly generation: string | null };
  readonly openWriter: (tableOf: (collection: string) => KnownTable | undefined) => Promise<ChangeLogWriter>;
  /** Kinds of changes that the format has a shape for. */
  readonly kinds: ReadonlySet<string>;
  readonly onHealthy?: () => void;
  readonly onPublished?: (changes: number) => void;
}

const catalogEveryMs = 5000;
const saveEveryMs = 500;
const appendsAhead = 4;

/** Runs once: until the signal aborts or something breaks. */
export async function runRepublish(options: RepublishOptions, signal: AbortSignal): Promise<void> {
  const { origin, format } = options;
  const lease = await SessionLease.take(origin.address, `publish ${format}`, signal);
  const connection = { application: `pgquorum publish ${format}`, answerWithinMs: 30_000 };
  await lease?.connected(origin.address, connection, async (client) => {
    let republishing: Republishing | null = null;
    try {
      republishing = new Republishing(options, { client, lease });
      await republishing.run(signal);
    } finally {
      await republishing?.close();
    }
  });
}

class Republishing {
  readonly #options: RepublishOptions;
  readonly #client: pg.Client;
  readonly #lease: SessionLease;
  readonly #catalog: OriginCatalog;
  readonly #held = new Map<number, Position>();
  readonly #underWay: Promise<void>[] = [];
  #generation: string | null = null;
  #reader: ReturnType<RepublishOptions['openReader']> | null = null;
  #writer: ChangeLogWriter | null = null;
  #catalogMs = -Infinity;
  #savedMs = 0;
  #failure: unknown = null;

  constructor(options: RepublishOptions, { client, lease }: { client: pg.Client; lease: SessionLease }) {
    this.#options = options;
    this.#client = client;
    this.#lease = lease;
    this.#catalog = new OriginCatalog(client);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { openReader, openWriter, onHealthy } = this.#options;
    const { generation, kept } = await this.#start();
    this.#reader = openReader(generation);
    const from = kept.size > 0 ? kept : await this.#earliest(this.#reader);
    this.#writer = await openWriter((collection) => this.#catalog.find(collection));
    onHealthy?.();
    for await (const batch of this.#reader.read({ from, signal })) {
      await this.#take(batch);
    }
    await Promise.all(this.#underWay);
    if (this.#failure !== null) throw this.#failure;
    await this.#save();
  }

  async #start(): Promise<{ generation: string | null; kept: Positions }> {
    const { rows } = await this.#client.query<{ stream: number; generation: string; position: string }>(
      'select stream, generation, position::text as position from pgquorum.published where format = $1',
      [this.#options.format],
    );
    const generation = rows[0]?.generation ?? '';
    return {
      generation: generation === '' ? null : generation,
      kept: new Map(rows.map(({ stream, position }) => [stream, BigInt(position)])),
    };
  }

  /** The first time what is still there is published: nobody can miss what he was never promised. */
  async #earliest(reader: ChangeLogReader): Promise<Positions> {
    const held = [...(await reader.positions())].filter(([, { first }]) => first >= 0n);
    return new Map(held.map(([stream, { first }]) => [stream, first]));
  }

  async #take(batch: LogBatch): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    const { kinds, onPublished } = this.#options;
    this.#generation = this.#reader!.generation;
    const changes = batch.changes.filter(({ kind }) => kinds.has(kind));
    await this.#refresh(changes.length > 0);
    const before = this.#underWay.at(-1) ?? Promise.resolve();
    const appended = changes.length === 0 ? Promise.resolve() : this.#writer!.append([{ ...batch, changes }]);
    const done = Promise.all([before, appended]).then(
      () => {
        if (batch.position !== null) this.#held.set(batch.stream, batch.position);
        onPublished?.(changes.length);
      },
      (cause: unknown) => void (this.#failure ??= cause),
    );
    this.#underWay.push(done);
    if (this.#underWay.length > appendsAhead) await this.#underWay.shift();
    if (performance.now() - this.#savedMs > saveEveryMs) await this.#save();
  }

  /** A delete has no columns of its own: the table's are looked up, a little late where they change. */
  async #refresh(needed: boolean): Promise<void> {
    if (!needed || performance.now() - this.#catalogMs < catalogEveryMs) return;
    await this.#catalog.reload();
    this.#catalogMs = performance.now();
  }

  async #save(): Promise<void> {
    if (this.#failure !== null) return;
    this.#savedMs = performance.now();
    await this.#lease.check();
    if (this.#held.size === 0) return;
    await this.#client.query(
      `insert into pgquorum.published (format, stream, generation, position)
       select $1, p.stream, $2, p.position from unnest($3::int[], $4::bigint[]) p(stream, position)
       on conflict (format, stream) do update set generation = excluded.generation, position = excluded.position`,
      [
        this.#options.format,
        this.#generation ?? '',
        [...this.#held.keys()],
        [...this.#held.values()].map(String),
      ],
    );
  }

  async close(): Promise<void> {
    await this.#reader?.close();
    await this.#writer?.close();
  }
}
