/**
 * One edge: the change log of one origin, read and applied to one target. Reads at the pace of its lanes, confirms what all of them hold, and
 * says in pgquorum.source what keeps it from going on. `run` ends when the signal aborts, after the lanes have finished what they had.
 *
 * Of several processes one runs it, by a lease on the target; the others wait. Where to go on from is read once the lease is held, and no session of an earlier
 * holder is left: what the log was told to forget is then within it.
 */
import type pg from 'pg';
import type { LogBatch } from '../changelog/change.ts';
import type { ChangeLogReader } from '../changelog/port.ts';
import type { Logger } from '../observability/logger.process.ts';
import { adoptFrom } from '../shards/map.pg.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { SessionLease } from '../postgres/session-lease.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';
import { Lane } from './lane.pg.ts';
import { ParkedDrain } from './parked-drain.pg.ts';
import { LanePositions } from './positions.ts';
import { readStart, setProblem, type EdgeStart } from './progress.pg.ts';
import type { ApplyCounts } from './outcomes.ts';

export interface EdgeOptions {
  readonly cluster: string;
  readonly origin: ClusterNode;
  readonly target: ClusterNode;
  readonly log: 'wal' | 'kafka';
  readonly openReader: (start: EdgeStart, control: pg.Client) => Promise<ChangeLogReader>;
  readonly lanes: number;
  readonly batchSize: number;
  readonly syncIntervalMs: number;
  readonly idleProgressMs: number;
  readonly logger: Logger;
  /** Called once the log of the origin flows. */
  readonly onHealthy?: () => void;
  readonly onApplied?: (counts: ApplyCounts, durationMs: number) => void;
  /** Called for each change that is parked or becomes a dead letter. */
  readonly onSetAside?: (outcome: 'parked' | 'dead-letter') => void;
  /** Told how many changes wait in the lanes. */
  readonly onQueued?: (changes: number) => void;
}

/** How much may wait in a lane before reading pauses. */
const laneRoom = { bytes: 4 * 1024 * 1024 };
/** How long the lanes may take to finish at a shutdown. */
const drainMs = 10_000;

/** Runs the edge once: until the signal aborts or something breaks. The caller starts it again. */
export async function runEdge(options: EdgeOptions, signal: AbortSignal): Promise<void> {
  const { origin, target, log, logger } = options;
  const lease = await SessionLease.take(target.address, `edge ${log} ${origin.number}`, signal, {
    onStandby: () => {
      logger.info('stands by: another process runs this edge');
      options.onHealthy?.();
    },
  });
  if (lease === null) return;
  try {
    await runAlone(options, lease, signal);
  } finally {
    await lease.release();
  }
}

async function runAlone(options: EdgeOptions, lease: SessionLease, signal: AbortSignal): Promise<void> {
  const { origin, target, log } = options;
  const join = (client: pg.Client) => lease.join(client);
  const control = await connect(target.address, {
    application: `pgquorum edge ${origin.name} ${target.name}`,
    answerWithinMs: 30_000,
  });
  const hard = new AbortController();
  let reader: ChangeLogReader | null = null;
  try {
    await join(control);
    await adoptFrom(control, { me: target.name, peer: origin.address });
    const start = await readStart(control, { origin: origin.number, log, lanes: options.lanes });
    reader = await options.openReader(start, control);
    const running = new RunningEdge({ ...options, join }, start, reader, hard.signal);
    const drain = new ParkedDrain({ ...options, join, resume: (collection) => running.resume(collection) });
    const work = Promise.all([
      running.run(signal, control),
      drain.run(AbortSignal.any([signal, running.stopped]), control),
    ]);
    work.catch(() => undefined); // when the lease is lost first, that is what ends the edge
    await Promise.race([work, lease.whenLost()]);
  } catch (cause) {
    if (!signal.aborted)
      await setProblem(control, { origin: origin.number, log, problem: describe(cause) }).catch(
        () => undefined,
      ); // the target itself may be what is down
    throw cause;
  } finally {
    hard.abort();
    await reader?.close();
    await closeClient(control);
  }
}

export const describe = (cause: unknown): string =>
  (cause instanceof Error ? cause.message : String(cause)).slice(0, 500);

/** With what makes its sessions a part of the lease. */
export type JoinedEdgeOptions = EdgeOptions & { readonly join: (client: pg.Client) => Promise<void> };

class RunningEdge {
  private readonly options: JoinedEdgeOptions;
  private readonly reader: ChangeLogReader;
  private readonly start: EdgeStart;
  private readonly lanes: Lane[];
  private readonly hard: AbortSignal;
  private readonly ended = new AbortController();

  constructor(options: JoinedEdgeOptions, start: EdgeStart, reader: ChangeLogReader, hard: AbortSignal) {
    this.options = options;
    this.reader = reader;
    this.start = start;
    this.hard = hard;
    const positions = new LanePositions(options.lanes, start.from);
    this.lanes = Array.from({ length: options.lanes }, (_, lane) => this.makeLane(lane, positions));
  }

  get stopped(): AbortSignal {
    return this.ended.signal;
  }

  resume(collection: string): void {
    for (const lane of this.lanes) lane.resume(collection);
  }

  private makeLane(lane: number, positions: LanePositions): Lane {
    const { cluster, origin, target, log } = this.options;
    return new Lane({
      ...this.options,
      origin: origin.number,
      lane,
      session: {
        node: target.address,
        application: `pgquorum apply ${origin.name} ${target.name} ${lane}`,
        originName: `pgquorum_${cluster}_${log}_${origin.number}_${target.number}_${lane}`,
        join: this.options.join,
        started: this.start.serverStarted,
      },
      onDurable: (stream, position) => {
        const held = positions.note(lane, stream, position);
        if (held !== null) this.reader.confirm(stream, held);
      },
      onApplied: (counts, durationMs) => {
        this.tellQueued();
        this.options.onApplied?.(counts, durationMs);
      },
      onProblem: (problem) => {
        if (problem !== null) this.options.logger.warn({ lane }, problem);
      },
    });
  }

  async run(signal: AbortSignal, control: pg.Client): Promise<void> {
    const lanes = this.lanes.map((lane) => lane.run(this.hard));
    const release = () => this.lanes.forEach((lane) => lane.release());
    signal.addEventListener('abort', release, { once: true });
    try {
      // A lane ends before it was told to only by failing.
      await Promise.race([this.read(signal, control), ...lanes]);
      for (const lane of this.lanes) lane.drain();
      const timer = AbortSignal.timeout(drainMs);
      await Promise.race([
        Promise.all(lanes),
        new Promise((resolve) => timer.addEventListener('abort', resolve, { once: true })),
      ]);
    } finally {
      signal.removeEventListener('abort', release);
      this.ended.abort();
      await this.reader.close();
    }
  }

  private async read(signal: AbortSignal, control: pg.Client): Promise<void> {
    const { origin, log } = this.options;
    let healthy = false;
    for await (const batch of this.reader.read({ from: this.start.from, signal })) {
      if (!healthy) {
        await setProblem(control, { origin: origin.number, log, problem: null });
        healthy = true;
        this.options.onHealthy?.();
      }
      this.dispatch(batch);
      this.tellQueued();
      for (const lane of this.lanes)
        await lane.room({ items: this.options.batchSize * 2, bytes: laneRoom.bytes }, signal);
    }
  }

  private tellQueued(): void {
    this.options.onQueued?.(this.lanes.reduce((sum, lane) => sum + lane.queued, 0));
  }

  private dispatch(batch: LogBatch): void {
    // Not the batch itself: one change that waits would keep all its others in memory.
    const commit = {
      origin: batch.origin,
      commitTimeMs: batch.commitTimeMs,
      commitLsn: batch.commitLsn,
    };
    for (const change of batch.changes) {
      if (change.kind === 'heartbeat') continue;
      this.lanes[(change.shard as number) % this.lanes.length]!.push({ change, commit });
    }
    if (batch.position === null) return;
    for (const lane of this.lanes) lane.mark(batch.stream, batch.position, batch.commitTimeMs);
  }
}
