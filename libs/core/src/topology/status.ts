/** What the databases say about the cluster -> the state of its nodes and edges, and whether replication moves. Pure. */
import type { StoredLimits } from '../bandwidth/limits.ts';
import { drifts, offsetsAgainstMedian, type ClockView } from './clock-drift.ts';

/** What one node tells about itself. Times are ms since 1970 of the database's clock; positions are bytes. */
export interface NodeFacts {
  readonly number: number;
  /** All numbers that were ever given out. */
  readonly members: readonly { readonly number: number; readonly name: string }[];
  /** Why it is not known whether this is the database that the others remember; null when it is. */
  readonly identity: string | null;
  readonly nowMs: number;
  /** It joins the cluster: it is being filled, and serves nobody yet. */
  readonly filling: boolean;
  /** It is being removed from the cluster. */
  readonly goes?: boolean;
  readonly writable: boolean;
  readonly flushPosition: string | null;
  readonly heartbeatMs: number | null;
  /** How many dots the node has given out, and how many it had at past heartbeats, oldest first: [ms, dots]. */
  readonly dot: number;
  readonly pulses: readonly (readonly [number, number])[];
  readonly sources: readonly {
    readonly origin: number;
    readonly log: string;
    readonly state: string;
    readonly slot: string | null;
    readonly problem: string | null;
  }[];
  /** By origin and log: when what the slowest lane applied last was committed. */
  readonly progress: readonly {
    readonly origin: number;
    readonly log: string;
    readonly commitTimeMs: number | null;
    readonly changes: string;
  }[];
  readonly slots: readonly {
    readonly name: string;
    readonly active: boolean;
    readonly confirmed: string | null;
    /** Bytes of WAL that the server keeps because of it. */
    readonly kept: number | null;
  }[];
  readonly pauses: readonly { readonly origin: number; readonly collection: string; readonly code: string }[];
  /** Changes that wait aside, by origin: how many (counted up to a limit), and since when the oldest does. */
  readonly parked: readonly { readonly origin: number; readonly count: number; readonly oldestMs: number }[];
  readonly shards: number;
  /** Shards that the node is about to have, and about to give up. */
  readonly joining: number;
  readonly leaving: number;
  /** Counted up to a limit. */
  readonly openConflicts: number;
  readonly deadLetters: number;
  /** The limits on what edges read, as this node knows them; null = never set. */
  readonly limits: StoredLimits | null;
  /** What its replicator found of all clocks, and when: node number -> [offset, round trip]. Null when nobody has looked yet. */
  readonly clocks: {
    readonly atMs: number;
    readonly found: Readonly<Record<string, readonly [number, number]>>;
  } | null;
}

export interface NodeReport {
  readonly name: string;
  readonly number: number;
  readonly zone: string;
  /** Null when it can not be reached. */
  readonly facts: NodeFacts | null;
  readonly problem: string | null;
  /** Its clock against the median of the nodes, positive when it is ahead. Null when it is not known. */
  readonly clockOffsetMs: number | null;
}

export interface StatusLimits {
  readonly failureTimeoutMs: number;
  readonly lagReadyMaxMs: number;
  readonly clockDriftMaxMs: number;
  /** 0 = none. */
  readonly walBudgetBytes: number;
}

/** `degraded`: alive, but its clock is too far off. `joining`: it is being filled, and serves nobody yet. `leaving`: it hands over what it has, and serves nobody any more. */
export type NodeStatus = 'alive' | 'degraded' | 'suspect' | 'down' | 'joining' | 'leaving';
/**
 * `joining`: its change log is being prepared; `syncing`: nothing has been applied yet; `lagging`: what was applied last is too old; `paused`: a
 * collection waits, the others move; `resync`: changes were missed; `down`: one side can not be reached, or something is in the way.
 */
export type EdgeState = 'joining' | 'syncing' | 'active' | 'lagging' | 'paused' | 'resync' | 'down';

export interface Edge {
  readonly from: string;
  readonly to: string;
  /** Age of the newest change or heartbeat that all lanes have applied: up to a heartbeat's interval when nothing lags. Null when there is none yet. */
  readonly ms: number | null;
  /** WAL of the origin that has not been confirmed yet. Null when it can not be known. */
  readonly bytes: number | null;
  /** WAL that the origin keeps because of the edge's slot, whatever is in it. Null with Kafka, and when it can not be known. */
  readonly kept: number | null;
  /** Changes of the origin that may be missing here: those since the last heartbeat before what was applied last, so a few too many while writing goes on; and what is parked. */
  readonly changes: number | null;
  /** Changes that wait aside (counted up to a limit), and the age of the oldest: `ms` passes them by. */
  readonly parked: number | null;
  readonly parkedMs: number | null;
  /** Changes applied so far on this edge. */
  readonly applied: string | null;
  readonly state: EdgeState;
  readonly problem: string | null;
}

/** Reachable, and its replicator writes heartbeats. */
export function nodeStatus({ facts, clockOffsetMs }: NodeReport, limits: StatusLimits): NodeStatus {
  if (facts === null) return 'down';
  if (facts.heartbeatMs !== null && facts.nowMs - facts.heartbeatMs > limits.failureTimeoutMs)
    return 'suspect';
  if (facts.goes === true) return 'leaving';
  if (facts.filling) return 'joining';
  return drifts(clockOffsetMs, limits.clockDriftMaxMs) ? 'degraded' : 'alive';
}

/** Findings older than this many times the failure timeout say nothing any more. */
const clocksKeptTimes = 3;

/** Reports with each clock's offset. A node that can not be reached has none. */
export function withClockOffsets(
  reports: readonly Omit<NodeReport, 'clockOffsetMs'>[],
  limits: Pick<StatusLimits, 'failureTimeoutMs'>,
): NodeReport[] {
  const views = reports.flatMap(({ facts }): ClockView[] => {
    const clocks = facts?.clocks ?? null;
    // Written and read by one clock, which may have been set in between.
    if (clocks === null || Math.abs(facts!.nowMs - clocks.atMs) > clocksKeptTimes * limits.failureTimeoutMs)
      return [];
    return [
      new Map(
        Object.entries(clocks.found).map(([node, [offsetMs, roundTripMs]]) => [
          Number(node),
          { offsetMs, roundTripMs },
        ]),
      ),
    ];
  });
  const offsets = offsetsAgainstMedian(views);
  return reports.map((report) => ({
    ...report,
    clockOffsetMs: report.facts === null ? null : (offsets.get(report.number) ?? null),
  }));
}

/** One edge for each pair of nodes. */
export function edges(reports: readonly NodeReport[], limits: StatusLimits, gatewayNowMs: number): Edge[] {
  return reports.flatMap((to) =>
    reports.filter((from) => from !== to).map((from) => edge(from, to, limits, gatewayNowMs)),
  );
}

function edge(from: NodeReport, to: NodeReport, limits: StatusLimits, gatewayNowMs: number): Edge {
  const pair = { from: from.name, to: to.name };
  if (to.facts === null)
    return {
      ...pair,
      ms: null,
      bytes: null,
      kept: null,
      changes: null,
      parked: null,
      parkedMs: null,
      applied: null,
      state: 'down',
      problem: `${to.name} can not be reached`,
    };
  const source = sourceOf(from, to);
  const progress = to.facts.progress.find((one) => one.origin === from.number && one.log === source?.log);
  // The origin's own clock stamped the commits.
  const nowMs = from.facts?.nowMs ?? gatewayNowMs;
  const ms = progress?.commitTimeMs == null ? null : Math.max(0, Math.round(nowMs - progress.commitTimeMs));
  const aside = to.facts.parked.find((one) => one.origin === from.number);
  const behind = changesBehind(from.facts, progress?.commitTimeMs ?? null);
  const measured = {
    ms,
    bytes: unconfirmedBytes(from, source?.slot ?? null),
    kept: source?.log === 'wal' ? (slotOf(from, source.slot)?.kept ?? null) : null,
    changes: behind === null ? null : behind + (aside?.count ?? 0),
    parked: aside?.count ?? 0,
    parkedMs: aside === undefined ? null : Math.max(0, Math.round(to.facts.nowMs - aside.oldestMs)),
    applied: progress?.changes ?? null,
  };
  const problem = edgeProblem(from, to, source);
  return { ...pair, ...measured, state: edgeState({ from, to, source, ms, limits }), problem };
}

/** Everything that was committed before a heartbeat that was applied was applied too. Older than what is kept of the past: at least so many. */
function changesBehind(from: NodeFacts | null, appliedMs: number | null): number | null {
  if (from === null || appliedMs === null) return null;
  const pulse = from.pulses.findLast(([atMs]) => atMs <= appliedMs) ?? from.pulses[0];
  return pulse === undefined ? null : Math.max(0, from.dot - pulse[1]);
}

type Source = NodeFacts['sources'][number] | undefined;

/** How `to` follows `from`. With Kafka that has two halves: what brings the origin's changes to its topic runs at the origin. */
function sourceOf(from: NodeReport, to: NodeReport): Source {
  const source = to.facts?.sources.find((one) => one.origin === from.number && one.log !== 'capture');
  const feed = from.facts?.sources.find((one) => one.log === 'capture');
  if (source === undefined || feed === undefined) return source;
  const state = feed.state === 'ready' ? source.state : feed.state;
  return { ...source, state, slot: source.slot ?? feed.slot, problem: source.problem ?? feed.problem };
}

function edgeProblem(from: NodeReport, to: NodeReport, source: Source): string | null {
  if (from.facts === null) return `${from.name} can not be reached`;
  if (source === undefined) return `${to.name} does not follow ${from.name}`;
  const unconfirmed = [from, to].find(({ facts }) => facts !== null && facts.identity !== null);
  if (unconfirmed !== undefined) return `${unconfirmed.name}: ${unconfirmed.facts!.identity}`;
  if (source.problem !== null) return source.problem;
  if (slotIsGone(from, source)) return `position_lost: slot ${source.slot} is missing on ${from.name}`;
  if (source.state !== 'ready') return `the change log of ${from.name} is being prepared`;
  const pause = to.facts?.pauses.find((one) => one.origin === from.number);
  return pause === undefined ? null : `collection ${pause.collection} is paused: ${pause.code}`;
}

function edgeState({
  from,
  to,
  source,
  ms,
  limits,
}: {
  from: NodeReport;
  to: NodeReport;
  source: Source;
  ms: number | null;
  limits: StatusLimits;
}): EdgeState {
  if (from.facts === null || source === undefined) return 'down';
  if (from.facts.identity !== null || (to.facts?.identity ?? null) !== null) return 'down';
  if (source.problem !== null) return /position_lost|resync/i.test(source.problem) ? 'resync' : 'down';
  if (source.state === 'resync' || slotIsGone(from, source)) return 'resync';
  if (source.state !== 'ready') return 'joining';
  if (ms === null) return 'syncing';
  // A collection that waits does not hide that the others do not move.
  if (ms > limits.lagReadyMaxMs) return 'lagging';
  return to.facts?.pauses.some((one) => one.origin === from.number) === true ? 'paused' : 'active';
}

const slotOf = (from: NodeReport, name: string | null) =>
  from.facts?.slots.find((slot) => slot.name === name);

/** Dropped by whoever did: what was committed since does not come. Its reader says so too, once there is one. */
const slotIsGone = (from: NodeReport, source: NonNullable<Source>): boolean =>
  source.log === 'wal' &&
  source.state === 'ready' &&
  from.facts !== null &&
  slotOf(from, source.slot) === undefined;

function unconfirmedBytes(from: NodeReport, slotName: string | null): number | null {
  const confirmed = slotOf(from, slotName)?.confirmed ?? null;
  if (confirmed === null || from.facts === null || from.facts.flushPosition === null) return null;
  const bytes = BigInt(from.facts.flushPosition) - BigInt(confirmed);
  return bytes > 0n ? Number(bytes) : 0;
}

/**
 * Why replication does not move; empty when it does. Edges of a node that is down do not count, nor does a paused collection: taking every gateway out
 * would not bring them back.
 */
export function notReadyReasons(reports: readonly NodeReport[], allEdges: readonly Edge[]): string[] {
  if (!reports.some((report) => report.facts?.writable === true)) return ['no node can be written'];
  return stuckEdges(reports, allEdges);
}

/** Edges between nodes that are up which do not move. Those of nodes that come or go serve nobody: taking gateways out would not help. */
export function stuckEdges(reports: readonly NodeReport[], allEdges: readonly Edge[]): string[] {
  const aside = new Set(
    reports.filter(({ facts }) => facts?.filling === true || facts?.goes === true).map(({ name }) => name),
  );
  const edges = allEdges.filter(({ from, to }) => !aside.has(from) && !aside.has(to));
  return describeEdges(reports, edges, (state) => state !== 'active' && state !== 'paused');
}

function describeEdges(
  reports: readonly NodeReport[],
  allEdges: readonly Edge[],
  wanted: (state: EdgeState) => boolean,
): string[] {
  const down = new Set(reports.filter((report) => report.facts === null).map((report) => report.name));
  return allEdges
    .filter((one) => !down.has(one.from) && !down.has(one.to) && wanted(one.state))
    .map(
      (one) =>
        `${one.from} to ${one.to}: ${one.problem ?? (one.ms === null ? 'nothing has been applied yet' : `lags ${one.ms} ms`)}`,
    );
}

export interface Health {
  readonly status: 'healthy' | 'degraded' | 'unavailable';
  readonly healthyNodes: number;
  readonly totalNodes: number;
  readonly problems: readonly string[];
}

export function health(
  reports: readonly NodeReport[],
  allEdges: readonly Edge[],
  limits: StatusLimits,
): Health {
  const healthyNodes = reports.filter((report) => nodeStatus(report, limits) === 'alive').length;
  const nodeProblems = reports.flatMap((report) => {
    const status = nodeStatus(report, limits);
    if (status === 'down') return [`node ${report.name} can not be reached`];
    if (status !== 'suspect') return [];
    const silent = `node ${report.name} has had no heartbeat for ${limits.failureTimeoutMs} ms`;
    return [report.facts?.filling === true ? `${silent}: it joins, and no replicator serves it` : silent];
  });
  const paused = describeEdges(reports, allEdges, (state) => state === 'paused');
  const problems = [
    ...nodeProblems,
    ...notReadyReasons(reports, allEdges),
    ...paused,
    ...parkedLong(allEdges, limits),
    ...overBudget(reports, limits),
    ...deadLetters(reports),
    ...clockDrifts(reports, limits),
  ];
  const unavailable = !reports.some((report) => report.facts?.writable === true);
  return {
    status: unavailable ? 'unavailable' : problems.length > 0 ? 'degraded' : 'healthy',
    healthyNodes,
    totalNodes: reports.length,
    problems,
  };
}

/** Of collections that are not paused: a row that somebody holds, or one that waits for another. */
const parkedLong = (allEdges: readonly Edge[], { lagReadyMaxMs }: StatusLimits): string[] =>
  allEdges.flatMap(({ from, to, state, parked, parkedMs }) =>
    state !== 'paused' && parkedMs !== null && parkedMs > lagReadyMaxMs
      ? [`${from} to ${to}: ${parked} changes wait aside, the oldest for ${parkedMs} ms`]
      : [],
  );

/** Also of peers that are down: theirs is the WAL that piles up. */
const overBudget = (reports: readonly NodeReport[], { walBudgetBytes }: StatusLimits): string[] =>
  walBudgetBytes === 0
    ? []
    : reports.flatMap(({ name, facts }) =>
        (facts?.slots ?? []).flatMap(({ name: slot, kept }) =>
          kept !== null && kept > walBudgetBytes
            ? [
                `node ${name} keeps ${kept} bytes of WAL for slot ${slot}, more than the budget of ${walBudgetBytes}`,
              ]
            : [],
        ),
      );

/** Keys that a node has not taken: it differs from the others in them. */
const deadLetters = (reports: readonly NodeReport[]): string[] =>
  reports.flatMap(({ name, facts }) =>
    facts !== null && facts.deadLetters > 0
      ? [`node ${name} keeps ${facts.deadLetters} changes that it can not apply as dead letters`]
      : [],
  );

/** Nothing is refused for it: a write beats what it has seen whatever the clocks say. Concurrent writes of a clock that is ahead win too often, though. */
const clockDrifts = (reports: readonly NodeReport[], { clockDriftMaxMs }: StatusLimits): string[] =>
  reports.flatMap(({ name, clockOffsetMs }) =>
    clockOffsetMs !== null && drifts(clockOffsetMs, clockDriftMaxMs)
      ? [
          `clock_drift: the clock of node ${name} is ${Math.abs(clockOffsetMs)} ms ${clockOffsetMs > 0 ? 'ahead of' : 'behind'} the median of the nodes, more than ${clockDriftMaxMs} ms`,
        ]
      : [],
  );
