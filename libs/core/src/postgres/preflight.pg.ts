/** Looks at databases as pgquorum's role sees them, founded or not, and changes nothing. What it means is said in preflight.ts. */
import { performance } from 'node:perf_hooks';
import type pg from 'pg';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import type { JobWork } from '../jobs/job.ts';
import { bestSample, takeSample, type ClockSample } from '../topology/clock-drift.ts';
import { withConnection, type ConnectOptions } from './connect.pg.ts';
import { freeDisk } from './free-disk.os.ts';
import {
  lookedAtSettings,
  type NodeLook,
  type Pooler,
  type PreflightNeeds,
  type ServerFacts,
} from './preflight-facts.ts';
import { preflightReport, type PreflightReport } from './preflight.ts';
import { isConnectionError, sqlStateOf } from './sqlstate.ts';

const answerWithinMs = 5000;
const clockSamples = 5;
const poolerTries = 5;

export interface PreflightOptions extends PreflightNeeds {
  readonly nodes: readonly NodeAddress[];
  readonly onLooked?: (looked: number) => void;
}

export async function preflight(options: PreflightOptions): Promise<PreflightReport> {
  let looked = 0;
  const looks = await Promise.all(
    options.nodes.map(async (node) => {
      const look = await lookAt(node, options);
      options.onLooked?.(++looked);
      return look;
    }),
  );
  return preflightReport(looks, options);
}

/** The job `preflight`: looks at the nodes of the cluster. */
export const preflightWork =
  (needs: PreflightNeeds): JobWork =>
  async (job, { nodes }) => {
    const unit = 'nodes';
    await job.report({ done: 0, total: nodes.length, unit });
    const report = await preflight({ ...needs, nodes: nodes.map(({ address }) => address) });
    await job.report({ done: nodes.length, total: nodes.length, unit }, { looked: nodes.length });
    return report;
  };

const connection: ConnectOptions = { application: 'pgquorum preflight', answerWithinMs, plain: true };

async function lookAt(node: NodeAddress, needs: PreflightNeeds): Promise<NodeLook> {
  try {
    return await withConnection(node, connection, async (client) => ({
      name: node.name,
      reached: true,
      facts: await readFacts(client, node, needs),
      pooler: await poolerBetween(client, node),
      replicationRefused: await replicationRefused(node),
      clock: await measureClock(client),
    }));
  } catch (cause) {
    const failure = driverError(cause);
    if (!isConnectionError(failure) && sqlStateOf(failure) === null) throw cause;
    return { name: node.name, reached: false, sqlstate: sqlStateOf(failure), message: messageOf(failure) };
  }
}

const driverError = (cause: unknown): unknown =>
  cause instanceof PgquorumError && cause.cause !== undefined ? cause.cause : cause;

/** Of the network no more than its code: its text may hold addresses. */
const messageOf = (failure: unknown): string =>
  sqlStateOf(failure) === null
    ? `no connection (${(failure as { code?: string }).code ?? 'no answer in time'})`
    : (failure as Error).message;

const catalogSql = `
  select current_setting('server_version_num')::integer as version, pg_is_in_recovery() as "inRecovery", pg_encoding_to_char(d.encoding) as encoding,
    (select c.system_identifier::text from pg_control_system() c) as "systemIdentifier", d.oid::text as "databaseOid", d.datname as database,
    jsonb_build_object('name', r.rolname, 'superuser', r.rolsuper, 'replication', r.rolreplication, 'connectionLimit', r.rolconnlimit) as role,
    jsonb_build_object(
      'createInDatabase', has_database_privilege(d.oid, 'create'),
      'createInPublic', coalesce(has_schema_privilege((select n.oid from pg_namespace n where n.nspname = 'public'), 'create'), false),
      'replicaRole', r.rolsuper or has_parameter_privilege('session_replication_role', 'set'),
      'readSettings', r.rolsuper or pg_has_role('pg_read_all_settings', 'usage'),
      'originsRefused', (select coalesce(jsonb_agg(p.oid::regprocedure::text order by p.oid::regprocedure::text), '[]') from pg_proc p
        where p.pronamespace = 'pg_catalog'::regnamespace and p.proname in ('pg_replication_origin_create', 'pg_replication_origin_oid', 'pg_replication_origin_session_setup')
          and not has_function_privilege(p.oid, 'execute'))) as may,
    jsonb_build_object('installed', (select e.extversion from pg_extension e where e.extname = 'vector'),
      'available', (select a.default_version from pg_available_extensions a where a.name = 'vector')) as vector,
    (select jsonb_build_object('used', count(*), 'ours', count(*) filter (where starts_with(s.slot_name, $1))) from pg_replication_slots s) as slots,
    (select jsonb_build_object('used', count(*), 'ours', count(*) filter (where exists (select from pg_replication_slots s where s.active_pid = w.pid and starts_with(s.slot_name, $1))))
      from pg_stat_replication w) as "walSenders",
    (select count(*)::integer from pg_stat_activity a where a.backend_type = 'client backend') as connections,
    (select jsonb_object_agg(s.name, jsonb_build_object('value', s.setting, 'source', s.source)) from pg_settings s where s.name = any($2::text[])) as settings
  from pg_database d, pg_roles r where d.datname = current_database() and r.rolname = current_user`;

/** Objects of the schema that the role does not own, sequences of identity columns aside: those go with their tables. */
const foreignSql = `
  select case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end as kind, c.oid::regclass::text as name
  from pg_class c where c.relnamespace = to_regnamespace('pgquorum') and c.relkind in ('r', 'p', 'S', 'v') and not pg_has_role(c.relowner, 'usage')
    and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i')
  union all select 'function', p.oid::regprocedure::text from pg_proc p where p.pronamespace = to_regnamespace('pgquorum') and not pg_has_role(p.proowner, 'usage')
  union all select 'schema', quote_ident(n.nspname) from pg_namespace n where n.nspname = 'pgquorum' and not pg_has_role(n.nspowner, 'usage')
  union all select 'publication', quote_ident(p.pubname) from pg_publication p where p.pubname = 'pgquorum' and not pg_has_role(p.pubowner, 'usage')
  order by 1, 2`;

const collectionsSql = `
  select s.name, s.table_schema as schema, s.table_name as "table", t.relreplident as identity, pg_has_role(t.relowner, 'usage') as owned
  from pgquorum.collection s join pg_namespace n on n.nspname = s.table_schema join pg_class t on t.relnamespace = n.oid and t.relname = s.table_name order by 1`;

async function readFacts(client: pg.Client, node: NodeAddress, needs: PreflightNeeds): Promise<ServerFacts> {
  const ours = `pgquorum_${needs.cluster.replaceAll('-', '_')}_`;
  const { rows } = await client.query<
    Omit<ServerFacts, 'foreignObjects' | 'founded' | 'collections' | 'disk'>
  >(catalogSql, [ours, lookedAtSettings]);
  const facts = rows[0]!;
  const foreign = await client.query<ServerFacts['foreignObjects'][number]>(foreignSql);
  const { rows: known } = await client.query<{ readable: boolean }>(
    `select coalesce(has_schema_privilege(to_regnamespace('pgquorum')::oid, 'usage') and has_table_privilege(to_regclass('pgquorum.node')::oid, 'select')
       and has_table_privilege(to_regclass('pgquorum.collection')::oid, 'select'), false) as readable`,
  );
  const readable = known[0]!.readable;
  const founded = readable
    ? (
        await client.query<NonNullable<ServerFacts['founded']>>(
          'select cluster, name, log from pgquorum.node',
        )
      ).rows[0]
    : undefined;
  return {
    ...facts,
    foreignObjects: foreign.rows,
    founded: founded ?? null,
    collections: readable
      ? (await client.query<ServerFacts['collections'][number]>(collectionsSql)).rows
      : [],
    disk: await freeDisk(node.url, facts.settings['data_directory']?.value),
  };
}

/**
 * A server tells a new session the id of its process; a pooler makes one up, since it has to know whose statement a cancel request means. In transaction
 * mode the process behind a session changes as soon as another session is in the way.
 */
async function poolerBetween(client: pg.Client, node: NodeAddress): Promise<Pooler> {
  const pidOf = async (of: pg.Client): Promise<number> =>
    (await of.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid;
  const told = (client as unknown as { processID: number | null }).processID;
  if (told === (await pidOf(client))) return 'none';
  try {
    return await withConnection(node, connection, async (other) => {
      for (let tries = 0; tries < poolerTries; tries++) {
        const before = await pidOf(client);
        await other.query('begin');
        const taken = await pidOf(other);
        const after = taken === before ? taken : await pidOf(client);
        await other.query('rollback');
        if (taken === before || after !== before) return 'transaction';
      }
      return 'session';
    });
  } catch {
    return 'session'; // no second session was to be had, so this one is not shared
  }
}

async function replicationRefused(node: NodeAddress): Promise<string | null> {
  try {
    await withConnection(node, { ...connection, replication: true }, (client) =>
      client.query('IDENTIFY_SYSTEM'),
    );
    return null;
  } catch (cause) {
    return messageOf(driverError(cause));
  }
}

async function measureClock(client: pg.Client): Promise<ClockSample | null> {
  const samples: ClockSample[] = [];
  for (let at = 0; at < clockSamples; at++) {
    const sentMs = performance.now();
    const { rows } = await client.query<{ ms: number }>(
      'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
    );
    samples.push(takeSample(rows[0]!.ms, sentMs, performance.now()));
  }
  return bestSample(samples);
}
