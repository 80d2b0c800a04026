/** The state of the cluster as read from its databases: one statement a node, kept for a moment, so that polling is cheap. */
import { performance } from 'node:perf_hooks';
import { limitsSql } from '../bandwidth/store.pg.ts';
import { drifts } from './clock-drift.ts';
import {
  edges,
  health,
  nodeStatus,
  notReadyReasons,
  withClockOffsets,
  type Edge,
  type Health,
  type NodeFacts,
  type NodeReport,
  type NodeStatus,
  type StatusLimits,
} from './status.ts';
import type { Node, Nodes } from './nodes.pg.ts';

const keptMs = 250;
const countedMax = 10_000;

const ms = (time: string) => `(extract(epoch from ${time}) * 1000)::float8`;

const factsSql = `select json_build_object(
  'number', (select n.number from pgquorum.node n),
  'members', (select coalesce(json_agg(json_build_object('number', m.number, 'name', m.name)), '[]') from pgquorum.member m),
  'identity', (select coalesce(n.identity_problem, 'its server was started: it is not confirmed yet that it is the database that others remember')
     from pgquorum.node n where n.started is distinct from pg_postmaster_start_time()),
  'nowMs', ${ms('clock_timestamp()')},
  'filling', (select n.joining_since is not null from pgquorum.node n),
  'goes', exists (select from pgquorum.member m, pgquorum.node n where m.number = n.number and m.change is not null),
  'writable', not pg_is_in_recovery() and current_setting('default_transaction_read_only') = 'off',
  'flushPosition', case when pg_is_in_recovery() then null else (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::text end,
  'heartbeatMs', (select ${ms('h.at')} from pgquorum.heartbeat h, pgquorum.node n where h.number = n.number),
  'dot', (select last_value::float8 from pgquorum.dot),
  'pulses', (select coalesce(json_agg(json_build_array(${ms('p.at')}, p.dot) order by p.at), '[]') from pgquorum.pulse p
     where p.at > clock_timestamp() - interval '1 minute' or extract(second from p.at) < 2 or p.at = (select min(first.at) from pgquorum.pulse first)),
  'sources', (select coalesce(json_agg(json_build_object('origin', s.origin, 'log', s.log, 'state', s.state, 'slot', s.slot,
     'problem', coalesce('resync: ' || r.reason, s.problem))), '[]') from pgquorum.source s left join pgquorum.resync r on r.origin = s.origin and r.log = s.log and s.state = 'resync'),
  'progress', (select coalesce(json_agg(json_build_object('origin', p.origin, 'log', p.log, 'commitTimeMs', p.commit_time_ms, 'changes', p.changes)), '[]')
     from (select origin, log, case when bool_or(commit_time is null) then null else ${ms('min(commit_time)')} end as commit_time_ms, sum(changes)::text as changes
           from pgquorum.progress group by origin, log) p),
  'slots', (select coalesce(json_agg(json_build_object('name', slot_name, 'active', active, 'confirmed', (confirmed_flush_lsn - '0/0'::pg_lsn)::text,
       'kept', case when pg_is_in_recovery() then null else greatest(0, pg_current_wal_lsn() - restart_lsn)::float8 end)), '[]')
     from pg_replication_slots where database = current_database()),
  'pauses', (select coalesce(json_agg(json_build_object('origin', origin, 'collection', collection, 'code', code)), '[]') from pgquorum.pause),
  'parked', (select coalesce(json_agg(json_build_object('origin', o.origin, 'count', o.waiting, 'oldestMs', ${ms('o.oldest')})), '[]')
     from (select p.origin, count(*) as waiting, min(p.at) as oldest from (select origin, at from pgquorum.parked order by id limit ${countedMax}) p group by p.origin) o),
  'joining', (select count(*) from pgquorum.shard_role where role = 'joining'),
  'leaving', (select count(*) from pgquorum.shard_role where role = 'leaving'),
  'shards', (select count(*) from pgquorum.shard_role where role = 'replica'),
  'openConflicts', (select count(*) from (select from pgquorum.conflict where state = 'open' limit ${countedMax}) c),
  'deadLetters', (select count(*) from (select from pgquorum.dead_letter limit ${countedMax}) d),
  'limits', (${limitsSql}),
  'clocks', (select json_build_object('atMs', ${ms('c.at')}, 'found', c.found) from pgquorum.clock_view c)
) as facts`;

export interface NodeView {
  readonly id: string;
  readonly number: number;
  readonly zone: string;
  readonly status: NodeStatus;
  readonly lastHeartbeat: string | null;
  readonly shards: number | null;
  readonly openConflicts: number | null;
  readonly deadLetters: number | null;
  /** Its clock against the median of the nodes, positive when it is ahead. */
  readonly clockOffsetMs: number | null;
  /** What is wrong with the node while it can be reached. */
  readonly problem: 'clock_drift' | null;
}

export interface ClusterStatus {
  readonly reports: readonly NodeReport[];
  readonly edges: readonly Edge[];
  readonly health: Health;
  readonly notReady: readonly string[];
  readonly readAtMs: number;
}

export class StatusBoard {
  readonly #nodes: Nodes;
  readonly #limits: StatusLimits;
  #kept: { readonly status: ClusterStatus; readonly untilMs: number } | null = null;
  #reading: Promise<ClusterStatus> | null = null;

  constructor(nodes: Nodes, limits: StatusLimits) {
    this.#nodes = nodes;
    this.#limits = limits;
  }

  read(): Promise<ClusterStatus> {
    if (this.#kept !== null && performance.now() < this.#kept.untilMs)
      return Promise.resolve(this.#kept.status);
    return this.#readNow();
  }

  /** For readiness: a kept "not ready" is never repeated, so that the first moment of being ready shows. */
  async readiness(): Promise<ClusterStatus> {
    const status = await this.read();
    return status.notReady.length === 0 ? status : this.#readNow();
  }

  nodeViews(status: ClusterStatus): NodeView[] {
    return status.reports.map((report) => ({
      id: report.name,
      number: report.number,
      zone: report.zone,
      status: nodeStatus(report, this.#limits),
      lastHeartbeat:
        report.facts?.heartbeatMs == null ? null : new Date(report.facts.heartbeatMs).toISOString(),
      shards: report.facts?.shards ?? null,
      openConflicts: report.facts?.openConflicts ?? null,
      deadLetters: report.facts?.deadLetters ?? null,
      clockOffsetMs: report.clockOffsetMs,
      problem: drifts(report.clockOffsetMs, this.#limits.clockDriftMaxMs) ? 'clock_drift' : null,
    }));
  }

  #readNow(): Promise<ClusterStatus> {
    this.#reading ??= this.#readAll().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #readAll(): Promise<ClusterStatus> {
    const read = await Promise.all(this.#nodes.all.map(reportOf));
    // It may have taken another number since this process began.
    for (const { facts } of read) this.#nodes.learnNames(facts?.members ?? []);
    const reports = withClockOffsets(read, this.#limits);
    const readAtMs = Date.now();
    const allEdges = edges(reports, this.#limits, readAtMs);
    const status = {
      reports,
      edges: allEdges,
      health: health(reports, allEdges, this.#limits),
      notReady: notReadyReasons(reports, allEdges),
      readAtMs,
    };
    this.#kept = { status, untilMs: performance.now() + keptMs };
    return status;
  }
}

async function reportOf(node: Node): Promise<Omit<NodeReport, 'clockOffsetMs'>> {
  const identity = { name: node.name, number: node.number as number, zone: node.zone };
  if (!node.isUp) return { ...identity, facts: null, problem: 'can not be reached' };
  try {
    const result = await node.statusPool.query<{ facts: NodeFacts }>(factsSql);
    const { facts } = result.rows[0]!;
    return { ...identity, number: facts.number, facts, problem: null };
  } catch (cause) {
    return { ...identity, facts: null, problem: (cause as { code?: string }).code ?? 'does not answer' };
  }
}
