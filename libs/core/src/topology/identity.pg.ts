/**
 * The life of a node's identity: every round asks the node and those of its peers that can be reached, judges (identity.ts), and then either confirms the
 * start of the server and lets the peers remember a new token, or has the node take another number (renumber.pg.ts).
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { PgquorumError } from '../errors/error.ts';
import type { Logger } from '../observability/logger.process.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { isUnreachable, sqlStateOf } from '../postgres/sqlstate.ts';
import { adoptNumber, type PeerIdentity } from './adopt.pg.ts';
import type { ClusterNode } from './found.pg.ts';
import { judge, type LocalIdentity, type Memory } from './identity.ts';
import { finishRenumbering, startRenumbering } from './renumber.pg.ts';

export interface IdentityOptions {
  readonly node: ClusterNode;
  readonly peers: readonly ClusterNode[];
  readonly intervalMs: number;
  /** Who told the peers something within this time is alive. */
  readonly aliveMs: number;
  readonly logger: Logger;
  /** Called whenever the node is found to be itself. */
  readonly onConfirmed?: () => void;
  /** Called when a node has another number than this process knows: what it runs has to begin anew. */
  readonly onRenumbered: () => void;
}

interface OwnFacts extends PeerIdentity {
  readonly former: number | null;
  readonly confirmed: boolean;
  readonly timeline: string;
  readonly timeline_now: string;
  readonly since: string;
}

interface PeerFacts extends PeerIdentity {
  readonly remembered_number: number | null;
  readonly token: string;
  readonly lsn: string;
  readonly ago_ms: number;
  readonly read_lsn: string | null;
  readonly retired: boolean;
  readonly spare_used: boolean;
  readonly removed: boolean;
}

const answerWithinMs = 10_000;
const connectTimeoutMs = 2000;
const peerConnection = { application: 'pgquorum identity', connectTimeoutMs, answerWithinMs };
const readOnly = '25006';
/** After the node or a peer was lost. */
const againMs = 200;

const ownSql = `select n.name, n.number, n.spare, n.zone, n.former, coalesce(n.started = pg_postmaster_start_time(), false) as confirmed, n.timeline,
    substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) as timeline_now,
    case when u.last_value in (0, coalesce((extract(epoch from n.started) * 1000000)::bigint, 0)) then (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint else l.last_value end::text as since
  from pgquorum.node n, pgquorum.unconfirmed_us u, pgquorum.unconfirmed_lsn l`;

/** What a peer knows of the node with this name, number and spare number; and who it is itself. */
const memorySql = `select n.name, n.number, n.spare, n.zone, r.number as remembered_number, r.token::text, r.lsn::text,
    (extract(epoch from clock_timestamp() - r.at) * 1000)::float8 as ago_ms,
    (select max(p.position)::text from pgquorum.progress p where p.origin = $2 and p.log = 'wal') as read_lsn,
    exists (select from pgquorum.member m where m.number = $2 and m.retired) as retired,
    exists (select from pgquorum.member m where m.number = $3 and not m.spare) as spare_used,
    coalesce((select bool_and(m.retired) from pgquorum.member m where m.name = $1), false) as removed
  from pgquorum.node n left join pgquorum.remembered r on r.name = $1`;

const rememberSql = `insert into pgquorum.remembered (name, number, token, lsn)
    select $1, $2::smallint, $3::uuid, $4::bigint where not exists (select from pgquorum.member m where m.number = $2::smallint and m.retired)
  on conflict (name) do update set number = excluded.number, token = excluded.token, lsn = excluded.lsn, at = clock_timestamp()`;

/** Runs until the signal aborts or something breaks that is not a lost connection. */
export async function watchIdentity(options: IdentityOptions, signal: AbortSignal): Promise<void> {
  const watch = new IdentityWatch(options);
  try {
    while (!signal.aborted) {
      let waitMs = options.intervalMs;
      try {
        await watch.round(signal);
      } catch (cause) {
        if (signal.aborted) return;
        if (!isUnreachable(cause)) throw cause;
        await watch.close();
        waitMs = Math.min(againMs, options.intervalMs);
      }
      await sleep(waitMs, undefined, { signal }).catch(() => undefined); // the loop's condition sees the abort
    }
  } finally {
    await watch.close();
  }
}

class IdentityWatch {
  readonly #options: IdentityOptions;
  #own: pg.Client | null = null;
  readonly #peers = new Map<string, pg.Client>();
  #problem: string | null = null;

  constructor(options: IdentityOptions) {
    this.#options = options;
  }

  async round(signal: AbortSignal): Promise<void> {
    const { node, peers, aliveMs } = this.#options;
    const client = await this.#client();
    const own = (await client.query<OwnFacts>(ownSql)).rows[0];
    if (own === undefined) throw new PgquorumError('not_ready', `node ${node.name} is not founded yet`);
    const known = await this.#ask(own);
    await this.#adopt(client, [...known.values()]);
    if (own.former !== null) return this.#finish(client, own, signal);
    if ([...known.values()].some(({ removed }) => removed)) return this.#removed(client);
    const memories = [...known].map(([peer, facts]) => memoryOf(peer, facts));
    const local = await localOf(client, own, memories);
    const verdict = judge(local, memories, { peers: peers.length, aliveMs });
    switch (verdict.kind) {
      case 'same':
        return this.#same(client, own);
      case 'unknown':
        return this.#trouble(
          client,
          'none of the other nodes can be asked whether this is the one that they remember',
        );
      case 'other-alive':
        return this.#trouble(client, verdict.reason);
      case 'changed': {
        this.#options.logger.error(
          { reason: verdict.reason },
          'this is not the database that others remember: it takes another number',
        );
        await startRenumbering(client, own, {
          peers: [...known.values()],
          all: known.size === peers.length,
          reason: verdict.reason,
        });
        const now = (await client.query<OwnFacts>(ownSql)).rows[0]!;
        return this.#finish(client, now, signal);
      }
    }
  }

  /** Another number would not make it a member again. */
  async #removed(client: pg.Client): Promise<void> {
    await this.#trouble(client, 'the other nodes have removed it from the cluster');
    this.#options.onRenumbered();
  }

  async #same(client: pg.Client, own: OwnFacts): Promise<void> {
    if (!own.confirmed) {
      await client.query(
        `update pgquorum.node set started = pg_postmaster_start_time(), identity_problem = null
         where number = $1 and setval('pgquorum.unconfirmed_us', pgquorum.server_start_us()) > 0`,
        [own.number],
      );
      this.#options.logger.info(
        'the start of the server is confirmed: it is the database that the other nodes remember',
      );
    } else if (this.#problem !== null) await client.query('update pgquorum.node set identity_problem = null');
    this.#problem = null;
    await this.#tell(client, own);
    this.#options.onConfirmed?.();
    await noteOwn(client);
    const { node, peers } = this.#options;
    const moved = own.number !== (node.number as number) || (await this.#movedPeers(client, peers));
    if (moved) this.#options.onRenumbered();
  }

  /** Does this process know a peer by a number that it has left? */
  async #movedPeers(client: pg.Client, peers: readonly ClusterNode[]): Promise<boolean> {
    const { rows } = await client.query<{ number: number }>(
      'select number from pgquorum.member where retired',
    );
    return peers.some((peer) => rows.some((row) => row.number === (peer.number as number)));
  }

  async #trouble(client: pg.Client, problem: string): Promise<void> {
    if (problem !== this.#problem) {
      this.#options.logger.warn({ problem }, 'the start of the server is not confirmed');
      await client.query('update pgquorum.node set identity_problem = $1', [problem]);
    }
    this.#problem = problem;
  }

  async #finish(client: pg.Client, own: OwnFacts, signal: AbortSignal): Promise<void> {
    await finishRenumbering(client, own.former!, signal);
    this.#options.logger.warn(
      { number: own.number, former: own.former },
      'the node goes on under another number',
    );
    await this.#tell(client, own);
    this.#options.onRenumbered();
  }

  /** In its own chain first: what a peer remembers it must never lack. */
  async #tell(client: pg.Client, own: PeerIdentity): Promise<void> {
    const token = randomUUID();
    const { rows } = await client.query<{ lsn: string }>(
      // Where a record ends, and durable with the token: what is flushed may end within a record, of which a crash leaves nothing.
      `with told as (insert into pgquorum.token (token) values ($1)) select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint::text as lsn`,
      [token],
    );
    let told = 0;
    for (const [name, peer] of this.#peers) {
      try {
        await peer.query(rememberSql, [own.name, own.number, token, rows[0]!.lsn]);
        told += 1;
      } catch (cause) {
        // One that is a standby still is told once it is promoted: others are not to be kept from it by that.
        if (sqlStateOf(cause) === readOnly) continue;
        if (!isUnreachable(cause)) throw cause;
        await this.#drop(name);
      }
    }
    // A peer that can not be reached may remember any of the older ones, and another replicator may be about to tell its own.
    if (told === this.#options.peers.length)
      await client.query(
        `delete from pgquorum.token t using pgquorum.token last where last.token = $1 and t.at < last.at - interval '1 minute'`,
        [token],
      );
  }

  async #ask(own: PeerIdentity): Promise<Map<string, PeerFacts>> {
    const found = new Map<string, PeerFacts>();
    await Promise.all(
      this.#options.peers.map(async (peer) => {
        try {
          const client = await this.#peer(peer);
          const { rows } = await client.query<PeerFacts>(memorySql, [own.name, own.number, own.spare ?? 0]);
          if (rows[0] !== undefined) found.set(peer.name, rows[0]);
        } catch (cause) {
          if (!isUnreachable(cause)) throw cause;
          await this.#drop(peer.name);
        }
      }),
    );
    return found;
  }

  async #adopt(client: pg.Client, peers: readonly PeerIdentity[]): Promise<void> {
    for (const peer of peers)
      if (await adoptNumber(client, peer))
        this.#options.logger.warn(
          { peer: peer.name, number: peer.number },
          'another node goes on under another number',
        );
  }

  async #client(): Promise<pg.Client> {
    const { node } = this.#options;
    this.#own ??= await connect(node.address, {
      application: 'pgquorum identity',
      connectTimeoutMs,
      answerWithinMs: 60_000,
    });
    return this.#own;
  }

  async #peer(peer: ClusterNode): Promise<pg.Client> {
    const open = this.#peers.get(peer.name);
    if (open !== undefined) return open;
    const client = await connect(peer.address, peerConnection);
    this.#peers.set(peer.name, client);
    return client;
  }

  async #drop(name: string): Promise<void> {
    const client = this.#peers.get(name);
    this.#peers.delete(name);
    if (client !== undefined) await closeClient(client);
  }

  async close(): Promise<void> {
    const own = this.#own;
    this.#own = null;
    if (own !== null) await closeClient(own);
    for (const name of this.#peers.keys()) await this.#drop(name);
  }
}

const memoryOf = (peer: string, facts: PeerFacts): Memory => ({
  peer,
  remembered:
    facts.remembered_number === null
      ? null
      : { number: facts.remembered_number, token: facts.token, lsn: BigInt(facts.lsn), agoMs: facts.ago_ms },
  readLsn: facts.read_lsn === null ? null : BigInt(facts.read_lsn),
  retired: facts.retired,
});

async function localOf(
  client: pg.Client,
  own: OwnFacts,
  memories: readonly Memory[],
): Promise<LocalIdentity> {
  const asked = memories.flatMap(({ remembered }) => remembered?.token ?? []);
  const { rows } = await client.query<{ token: string }>(
    'select token::text from pgquorum.token where token = any($1::uuid[])',
    [asked],
  );
  return {
    number: own.number,
    confirmed: own.confirmed,
    timeline: own.timeline,
    timelineNow: own.timeline_now,
    sinceLsn: BigInt(own.since),
    tokens: new Set(rows.map((row) => row.token)),
  };
}

/** Lets writes know their number without a query; until then, and after each change of it, they ask for it. */
export const noteOwn = (client: pg.Client): Promise<unknown> =>
  client.query(
    `select pgquorum.note_own() from pgquorum.node n
     where n.started = pg_postmaster_start_time() and pg_sequence_last_value('pgquorum.own') is distinct from pgquorum.packed_own(n.number, n.started)`,
  );
