/** Changes of one origin from its WAL: each reading has a temporary copy of a slot that still holds what it needs (anchor.pg.ts). */
import { randomBytes } from 'node:crypto';
import type { LogBatch } from '../changelog/change.ts';
import type { ChangeLogReader } from '../changelog/port.ts';
import { WalChangeLog } from '../changelog/wal.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import { deadlineIn } from '../postgres/session.pg.ts';
import { edgeSlot, followSlot } from '../topology/names.ts';
import type { Node } from '../topology/nodes.pg.ts';
import type { NodeNumber } from '../versioning/version.ts';
import { ensureAnchor, readAnchor, touchAnchor, type Anchor } from './anchor.pg.ts';
import type { HeldLog, OriginPlace } from './place.ts';
import type { ChangeSource } from './source.ts';

export interface WalSourceOptions {
  readonly cluster: string;
  readonly node: Node;
  /** Numbers of the other masters: their slots may be copied too, and are nearer to the end than the anchor. */
  readonly peers: readonly NodeNumber[];
  readonly transactionBytesMax: number;
  /** A reading that is this far behind is ended: it would keep WAL without a bound. */
  readonly behindBytesMax: number;
  readonly tendMs?: number;
}

const answerWithinMs = 10_000;
const tendMsDefault = 15_000;
/** WAL that takes a fraction of a second to read. */
const nearBytes = 8n * 1024n * 1024n;
const readingsMax = 2;

interface Reading {
  position: bigint;
  readonly ended: AbortController;
}

export class WalSource implements ChangeSource {
  readonly origin: string;
  readonly nearMax = nearBytes;
  readonly readingsMax = readingsMax;
  readonly #options: WalSourceOptions;
  readonly #readings = new Set<Reading>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: WalSourceOptions) {
    this.#options = options;
    this.origin = options.node.name;
  }

  async held(): Promise<HeldLog> {
    const { generation, first, end } = await this.#anchor();
    return { generation, first: new Map([[0, first]]), end: new Map([[0, end]]) };
  }

  /** A slot can be made only when all transactions that run now have ended: that takes as long as the longest of them. */
  #anchor(): Promise<Anchor> {
    const { node, cluster } = this.#options;
    return node.run(deadlineIn(answerWithinMs), (client) =>
      ensureAnchor(client, { cluster, number: node.number }),
    );
  }

  async open({ generation, positions }: OriginPlace): Promise<ChangeLogReader> {
    const { node, cluster, peers, transactionBytesMax } = this.#options;
    const anchor = await this.#anchor();
    await node.run(deadlineIn(answerWithinMs), touchAnchor);
    if (anchor.generation !== generation)
      throw new PgquorumError('position_lost', `the slot ${anchor.slot} was made anew`);
    const log = new WalChangeLog({
      node: node.address,
      origin: node.number,
      slot: followSlot(cluster, node.number, randomBytes(4).toString('hex')),
      copyOf: [anchor.slot, ...peers.map((peer) => edgeSlot(cluster, node.number, peer))],
      publication: anchor.publication,
      confirmed: true,
      transactionBytesMax,
    });
    const reading = { position: positions.get(0) ?? 0n, ended: new AbortController() };
    this.#watch(reading);
    return {
      origin: log.origin,
      read: (options) => readWatched(log, reading, options),
      confirm: (stream, position) => {
        reading.position = position;
        log.confirm(stream, position);
      },
      positions: () => log.positions(),
      close: async () => {
        this.#unwatch(reading);
        await log.close();
      },
    };
  }

  #watch(reading: Reading): void {
    this.#readings.add(reading);
    this.#timer ??= setInterval(() => void this.#tend(), this.#options.tendMs ?? tendMsDefault);
    this.#timer.unref();
  }

  #unwatch(reading: Reading): void {
    this.#readings.delete(reading);
    if (this.#readings.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  /** Keeps the anchor in use, and ends readings that keep too much. */
  async #tend(): Promise<void> {
    const { node, behindBytesMax } = this.#options;
    try {
      const anchor = await node.run(deadlineIn(answerWithinMs), async (client) => {
        await touchAnchor(client);
        return readAnchor(client);
      });
      for (const { position, ended } of this.#readings)
        if (anchor !== null && anchor.end - position > BigInt(behindBytesMax))
          ended.abort(
            new PgquorumError('position_lost', `a reading of ${node.name} is too far behind: it was ended`),
          );
    } catch {
      // The node can not be asked now: the readings themselves notice when it is gone, and the next look comes soon.
    }
  }

  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }
}

async function* readWatched(
  log: WalChangeLog,
  { ended }: Reading,
  { from, signal }: Parameters<ChangeLogReader['read']>[0],
): AsyncGenerator<LogBatch, void> {
  yield* log.read({ from, signal: AbortSignal.any([signal, ended.signal]) });
  if (ended.signal.aborted) throw ended.signal.reason;
}
