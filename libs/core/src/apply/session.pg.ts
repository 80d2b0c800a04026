/**
 * One connection that applies: opened with the settings that apply needs, marked with a replication origin where the role may, and with the
 * target's catalog at hand. Who holds it runs one transaction at a time on it.
 */
import pg from 'pg';
import type { ColumnArray } from '../postgres/binary-array.ts';
import { runBulk } from './bulk-statement.pg.ts';
import type { CopyData } from './copy-format.ts';
import { runCopy } from './copy-statement.pg.ts';
import { SendBuffer } from './send-buffer.ts';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { clientConfig, closeClient } from '../postgres/connect.pg.ts';
import { quoteText } from '../postgres/identifier.ts';
import { writeAtOnce } from '../postgres/one-write.pg.ts';
import { sqlStateOf } from '../postgres/sqlstate.ts';
import { KnownRoles } from './shard-roles.ts';
import { TargetCatalog } from './target.pg.ts';

export interface SessionOptions {
  readonly node: NodeAddress;
  readonly application: string;
  /** Name of the replication origin to mark this session with; an origin is active in one session only. Null = none, which only costs the WAL's readers time. */
  readonly originName: string | null;
  /** Makes the session a part of what it is done for; throws when that may not go on. */
  readonly join?: ((client: pg.Client) => Promise<void>) | undefined;
  /** The start of the server that this session belongs to; any when left out. After another start it may be another database. */
  readonly started?: string;
}

/**
 * How long a statement outside of an apply transaction waits for a lock: the catalog of a table is read under one, which whoever rewrites or truncates the
 * table keeps from us, and a lane has other collections to serve.
 */
const catalogLockMs = 1000;
/** An apply transaction's statements take milliseconds, with an ANN index on the target perhaps seconds. */
const answerWithinMs = 30_000;

export class ApplySession {
  readonly client: pg.Client;
  readonly catalog: TargetCatalog;
  /** May this role switch off users' triggers for its transactions? */
  readonly replicaRole: boolean;
  /** Does the WAL say of this session's changes that replication made them? */
  readonly marked: boolean;
  readonly localNumber: number;
  readonly roles = new KnownRoles();
  private readonly sendBuffer = new SendBuffer();

  private constructor(
    client: pg.Client,
    facts: { replicaRole: boolean; marked: boolean; localNumber: number },
  ) {
    this.client = client;
    this.catalog = new TargetCatalog(client);
    this.replicaRole = facts.replicaRole;
    this.marked = facts.marked;
    this.localNumber = facts.localNumber;
  }

  static async open(options: SessionOptions): Promise<ApplySession> {
    const client = new pg.Client({
      ...clientConfig(options.node, { application: options.application, pipeline: true, answerWithinMs }),
    });
    client.on('error', () => undefined); // the statement that notices it rejects
    try {
      await client.connect();
      writeAtOnce(client);
      await options.join?.(client);
      // Statements here look keys up, whatever the planner thinks of an empty table today: a plan made once has to stay right when it grows.
      await client.query(
        `set lock_timeout = ${catalogLockMs}; set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set enable_bitmapscan = off; set jit = off`,
      );
      const facts = await client.query<{ number: number; replica: boolean; started: string }>(
        `select n.number, coalesce((select rolsuper from pg_roles where rolname = current_user), false) or has_parameter_privilege(current_user, 'session_replication_role', 'set') as replica,
           pg_postmaster_start_time()::text as started from pgquorum.node n`,
      );
      if (options.started !== undefined && options.started !== facts.rows[0]!.started)
        throw new PgquorumError(
          'not_ready',
          'the server was started anew: it may not be the same database any more',
        );
      const marked = options.originName !== null && (await mark(client, options.originName));
      return new ApplySession(client, {
        replicaRole: facts.rows[0]!.replica,
        marked,
        localNumber: facts.rows[0]!.number,
      });
    } catch (cause) {
      await closeClient(client);
      throw cause;
    }
  }

  /** A prepared statement, named after its text by the caller. */
  run<R extends pg.QueryResultRow>(
    name: string,
    text: string,
    values: unknown[],
  ): Promise<pg.QueryResult<R>> {
    return this.client.query<R>({ name, text, values });
  }

  /** The same for the rows of a batch. */
  runBulk(name: string, text: string, columns: readonly ColumnArray[]): Promise<pg.QueryResult> {
    return runBulk(this.client, { name, text, columns, buffer: this.sendBuffer });
  }

  /** Adds rows that are not there yet. Rejects with CopyRefused when that can not be. */
  copy(text: string, data: CopyData): Promise<pg.QueryResult> {
    return runCopy(this.client, { text, data, buffer: this.sendBuffer });
  }

  async close(): Promise<void> {
    await closeClient(this.client);
  }
}

/** Not being allowed to, or finding the origin active elsewhere, only costs time: versions say themselves who wrote them. */
async function mark(client: pg.Client, name: string): Promise<boolean> {
  const origin = quoteText(name);
  const allowed = await client.query<{ allowed: boolean }>(
    `select bool_and(has_function_privilege(p.oid, 'execute')) as allowed from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace
     and p.proname in ('pg_replication_origin_create', 'pg_replication_origin_oid', 'pg_replication_origin_session_setup')`,
  );
  if (!allowed.rows[0]!.allowed) return false;
  try {
    await client.query(
      `select pg_replication_origin_create(${origin}) where pg_replication_origin_oid(${origin}) is null`,
    );
    await client.query(`select pg_replication_origin_session_setup(${origin})`);
    return true;
  } catch (cause) {
    if (sqlStateOf(cause) === null) throw cause;
    return false;
  }
}
