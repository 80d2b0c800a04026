/**
 * Plays a history: nodes, the log of each, and the edges between them. After every step that touches a key on a node, what the node holds is compared
 * with the naive model; at the end every edge is drained and the guarantees are checked on all nodes.
 */
import { hlcFromMs } from '#core/versioning/hlc.ts';
import { overwrittenRequest } from '#core/capture/overwritten-request.ts';
import { currentLife } from '#core/versioning/crdt/state.ts';
import { isOperation } from '#core/versioning/merge.ts';
import { dotText, type HlcValue, type Version } from '#core/versioning/version.ts';
import { noCounts } from './counts.ts';
import { checkEnd, checkKey } from './checks.ts';
import { someOperations, type History, type Step, type Write } from './history.ts';
import {
  aloneState,
  Ledger,
  merge,
  nothingKnown,
  settle,
  union,
  winnerOf,
  type ModelState,
} from './model.ts';
import { lastOfEach } from './last-of-each.ts';
import { Purging } from './purging.ts';
import type { Edge, Sent } from './edge.ts';
import type { Fault, Message } from './message.ts';
import { SimNode } from './node.ts';
import { shortHlc, shownMessage, shownOpen, shownWinner, startMs } from './shown.ts';

export class World {
  readonly ledger = new Ledger();
  readonly nodes: readonly SimNode[];
  readonly keys: readonly string[];
  readonly oneWriter: boolean;
  /** Losers that a write or a call closed, by key: they must have a record everywhere in the end. */
  readonly closedByWrite = new Map<string, Set<string>>();
  readonly trace: string[] = [];
  /** What happened, to see that histories are worth playing. */
  readonly counts = noCounts();
  readonly #models: readonly Map<string, ModelState>[];
  readonly #logs: readonly Message[][][];
  /** Of each node, what its counter was after each transaction of its log. */
  readonly #counters: readonly number[][];
  readonly #away = new Set<SimNode>();
  readonly #purging: Purging;
  readonly #edges = new Map<string, Edge>();
  readonly #faults: ReadonlySet<Fault>;
  #nowMs = startMs;
  #delivered = 0;

  constructor(
    history: Pick<History, 'nodes' | 'keys' | 'oneWriter'>,
    faults: ReadonlySet<Fault> = new Set(),
  ) {
    this.nodes = Array.from({ length: history.nodes }, (_, at) => new SimNode(at + 1, faults));
    this.keys = Array.from({ length: history.keys }, (_, at) => `k${at}`);
    this.oneWriter = history.oneWriter;
    this.#models = this.nodes.map(() => new Map());
    this.#logs = this.nodes.map(() => []);
    this.#counters = this.nodes.map(() => []);
    this.#faults = faults;
    this.#purging = new Purging(this.nodes, faults, {
      mergedCounter: (origin, holder) => this.#mergedCounter(origin, holder),
      isAway: (node) => this.#away.has(node),
      exchange: () => this.#exchange(),
      trace: (line) => void this.trace.push(line),
    });
  }

  model(node: SimNode, key: string): ModelState {
    return this.#models[node.number - 1]!.get(key) ?? nothingKnown;
  }

  #setModel(node: SimNode, key: string, state: ModelState): void {
    this.#models[node.number - 1]!.set(key, state);
  }

  #node = (at: number): SimNode => this.nodes[at % this.nodes.length]!;
  #key = (at: number): string => this.keys[at % this.keys.length]!;
  #now = (node: SimNode): HlcValue => hlcFromMs(this.#nowMs + node.skewMs);

  #edge(from: SimNode, to: SimNode): Edge {
    const name = `${from.number}>${to.number}`;
    let edge = this.#edges.get(name);
    if (edge === undefined) this.#edges.set(name, (edge = { applied: 0, taken: 0, underWay: [] }));
    return edge;
  }

  run(steps: readonly Step[]): void {
    for (const step of steps) this.step(step);
    this.drain();
    checkEnd(this);
  }

  step(step: Step): void {
    switch (step.kind) {
      case 'time':
        this.#nowMs += step.ms;
        if (step.skewMs !== null) this.#node(step.node).skewMs = step.skewMs;
        this.trace.push(
          `time +${step.ms} ms${step.skewMs === null ? '' : `, clock of ${this.#node(step.node).number} off by ${step.skewMs} ms`}`,
        );
        return;
      case 'write':
        return this.#write(step.node, step.writes);
      case 'operate':
        return this.#operate(step);
      case 'restore':
      case 'resolve':
        return this.#call(step);
      case 'away': {
        const node = this.#node(step.node);
        if (this.#away.size > 0) this.#away.clear();
        else this.#away.add(node);
        this.trace.push(this.#away.has(node) ? `node ${node.number} is cut off` : 'who was cut off is back');
        return;
      }
      case 'purge':
        return this.#purge(step);
      case 'repair':
        if (this.#away.has(this.#node(step.from)) || this.#away.has(this.#node(step.to))) return;
        return this.#repair(this.#node(step.from), this.#node(step.to), this.#key(step.key));
      case 'capture':
      case 'deliver':
      case 'crash': {
        const [from, to] = [this.#node(step.from), this.#node(step.to)];
        if (from === to || this.#away.has(from) || this.#away.has(to)) return;
        if (step.kind === 'capture') this.#capture(from, to, step.count, step.reread);
        else if (step.kind === 'deliver') this.#deliver(from, to, step.count);
        else this.#crash(from, to, step);
      }
    }
  }

  #write(at: number, writes: readonly Write[]): void {
    const byNode = new Map<SimNode, Message[]>();
    const twice = new Set(writes.map((write) => this.#key(write.key))).size < writes.length;
    for (const write of writes) {
      const key = this.#key(write.key);
      const node = this.oneWriter ? this.#node(this.keys.indexOf(key)) : this.#node(at);
      const request = write.request === null || twice ? null : `${key} request ${write.request}`;
      // The gateway answers a request that this node knows from memory; a delete of what is not there touches no row.
      if (request !== null && node.requestsOf(key).has(request)) continue;
      if (write.deleted && !node.rows.has(key)) continue;
      // Tries of one request carry one row.
      const row = write.deleted ? null : (request ?? `row ${node.number}.${this.ledger.of(key).size}`);
      const messages = this.#localWrite(node, key, (now) => node.write(key, { row, request, now }));
      byNode.set(node, lastOfEach([...(byNode.get(node) ?? []), ...messages]));
    }
    for (const [node, messages] of byNode) this.#commit(node, messages);
  }

  #operate(step: Step & { kind: 'operate' }): void {
    const key = this.#key(step.key);
    const node = this.oneWriter ? this.#node(this.keys.indexOf(key)) : this.#node(step.node);
    const operations = someOperations[step.pick % someOperations.length]!;
    const before = this.model(node, key);
    const done = node.operate(key, operations, this.#now(node));
    if (done === null) return;
    this.counts.operations += 1;
    const life = currentLife(node.versions.get(key)!.version.crdt!);
    const operation = this.ledger.operate(key, { id: dotText(done.dot), operations, life }, before.known);
    this.#setModel(node, key, { ...before, known: operation.history });
    this.trace.push(`operate ${key} at ${node.number}: ${operation.id} ${JSON.stringify(operations)}`);
    checkKey(this, node, key);
    this.#commit(node, [done.message]);
  }

  #call(step: Step & { kind: 'restore' | 'resolve' }): void {
    const node = this.#node(step.node);
    const candidates = this.keys.flatMap((key) =>
      [...node.recordsOf(key).values()].map((record) => ({ key, record })),
    );
    const picked = candidates[step.pick % Math.max(1, candidates.length)];
    if (picked === undefined) return;
    const { key, record } = picked;
    if (this.oneWriter && node !== this.#node(this.keys.indexOf(key))) return;
    if (step.kind === 'resolve') {
      if (record.state !== 'open') return;
      this.counts.resolved += 1;
      this.trace.push(`resolve ${key} at ${node.number}`);
      this.#commit(
        node,
        this.#localWrite(node, key, (now) => node.resolve(key, now)),
      );
      return;
    }
    if (record.row === null) return;
    this.counts.restored += 1;
    this.trace.push(`restore ${key} ${dotText(record.loser.dot)} at ${node.number}`);
    this.#commit(
      node,
      this.#localWrite(node, key, (now) => node.restore(key, record, now)),
    );
  }

  #localWrite(node: SimNode, key: string, write: (now: HlcValue) => Message[]): Message[] {
    const before = this.model(node, key);
    const messages = write(this.#now(node));
    const { version } = node.versions.get(key)!;
    this.#count(key, version);
    const row = node.rows.get(key) ?? null;
    const insert = Object.hasOwn(version.crdt ?? {}, dotText(version.dot));
    const entry = this.ledger.add(key, { version, row, insert }, before.known);
    const losers = [...before.live].filter((id) => id !== winnerOf(this.ledger, key, before.live)?.id);
    this.#noteClosed(key, losers);
    const closed = new Set([...before.closed, ...losers]);
    this.#setModel(
      node,
      key,
      settle(this.ledger, key, {
        live: new Set([entry.id]),
        known: entry.history,
        heard: new Set([...before.heard, entry.id]),
        closed,
      }),
    );
    this.trace.push(
      `write ${key} at ${node.number}: ${entry.id}${version.deleted ? ' (delete)' : ''}${version.request === null ? '' : ` ${version.request}`} hlc ${shortHlc(version)} having seen ${[...before.known].join(' ') || 'nothing'}`,
    );
    checkKey(this, node, key);
    return messages;
  }

  #count(key: string, version: Version): void {
    const others = [...this.ledger.of(key).values()].map((write) => write.version);
    this.counts.writes += 1;
    if (version.request !== null && others.some((other) => other.request === version.request))
      this.counts.repeats += 1;
    if (others.some((other) => other.hlc === version.hlc)) this.counts.equalHlcs += 1;
  }

  #noteClosed(key: string, losers: readonly string[]): void {
    this.closedByWrite.set(key, new Set([...(this.closedByWrite.get(key) ?? []), ...losers]));
    if (losers.length > 0) this.counts.closed += 1;
  }

  #commit(node: SimNode, messages: Message[]): void {
    if (messages.length === 0) return;
    this.#logs[node.number - 1]!.push(messages);
    this.#counters[node.number - 1]!.push(node.counter);
  }

  #capture(from: SimNode, to: SimNode, count: number, reread: number): void {
    const edge = this.#edge(from, to);
    const log = this.#logs[from.number - 1]!;
    for (let left = count; left > 0 && edge.taken < log.length; left -= 1) {
      const sent = log[edge.taken]!.flatMap((message, at) =>
        this.#send(
          from,
          message,
          (message.kind === 'write' && message.operation === true) || ((reread >> at) & 1) === 1,
        ),
      );
      edge.underWay.push({ transaction: edge.taken, sent });
      edge.taken += 1;
    }
  }

  /** What leaves the node for a change in its log: the change, or the whole state as it is now. */
  #send(from: SimNode, message: Message, reread: boolean): Sent | [] {
    if (message.kind === 'conflict') return { message, model: null };
    const written = message.state.winner!.version;
    const entry = this.ledger.get(message.key, dotText(written.dot));
    if (!reread) return { message, model: aloneState(entry) };
    if (!from.versions.has(message.key)) return []; // an old part of the log, read again after a purge
    const before = this.model(from, message.key);
    if (before.live.size > 1) this.counts.wholeWithLosers += 1;
    this.trace.push(
      `re-read of ${message.key} at ${from.number} for ${entry.id}: ${[...before.live].join(' ')}`,
    );
    const state = from.whole(message.key);
    const requests = overwrittenRequest(written, {
      winner: state.winner!.version,
      losers: state.losers.map(({ version }) => version),
    });
    return {
      message: {
        ...message,
        state,
        requests: this.#faults.has('request-lost-by-reread') ? [] : requests,
      },
      model: { ...before, heard: new Set([...before.live, entry.id]), closed: new Set() },
    };
  }

  #deliver(from: SimNode, to: SimNode, count: number): void {
    const edge = this.#edge(from, to);
    const batch = edge.underWay.splice(0, count);
    if (batch.length === 0) return;
    edge.applied = Math.max(edge.applied, batch.at(-1)!.transaction + 1);
    this.#applyBatch(
      from,
      to,
      batch.flatMap((one) => one.sent),
    );
  }

  #applyBatch(from: SimNode, to: SimNode, sent: readonly Sent[]): void {
    this.#delivered += 1;
    const lost = this.#faults.has('message-lost') && this.#delivered === 2;
    const published = to.apply(sent.slice(lost ? 1 : 0).map((one) => one.message));
    for (const message of published) {
      this.counts.returned += 1;
      this.trace.push(`${message.key} at ${to.number}: ${shownMessage(message)} was purged and came again`);
      this.#commit(to, [message]);
    }
    for (const [key, list] of Map.groupBy(sent, (one) => one.message.key)) {
      const models = list.flatMap((one) => (one.model === null ? [] : [one.model]));
      const before = this.model(to, key);
      let state: ModelState = {
        ...before,
        heard: models.reduce((heard, one) => union(heard, one.heard), before.heard),
      };
      for (const model of models) state = merge(this.ledger, key, state, model);
      const closed = list.flatMap(({ message }) =>
        message.kind === 'conflict' && message.record.state !== 'open'
          ? [dotText(message.record.loser.dot)]
          : [],
      );
      this.#setModel(
        to,
        key,
        settle(this.ledger, key, { ...state, closed: new Set([...state.closed, ...closed]) }),
      );
      this.trace.push(
        `${from.number} -> ${to.number} ${key}: ${list.map(({ message }) => shownMessage(message)).join(', ')} => winner ${shownWinner(to, key)}, open ${shownOpen(to.openRecords(key))}`,
      );
      if (to.openRecords(key).length > 0) this.counts.conflicts += 1;
      if (to.openRecords(key).some(({ loser }) => isOperation(loser))) this.counts.undone += 1;
      checkKey(this, to, key);
    }
  }

  #crash(from: SimNode, to: SimNode, step: Step & { kind: 'crash' }): void {
    const edge = this.#edge(from, to);
    const sent = [...(edge.underWay[0]?.sent ?? [])];
    if (step.reversed) sent.reverse();
    for (const one of sent.slice(0, step.part)) this.#applyBatch(from, to, [one]);
    edge.underWay = [];
    edge.taken = Math.max(0, edge.applied - step.back);
    this.trace.push(
      `crash of the reader ${from.number} -> ${to.number}, goes on ${edge.applied - edge.taken} transactions back`,
    );
  }

  #repair(from: SimNode, to: SimNode, key: string): void {
    if (from === to || !from.versions.has(key)) return;
    const before = this.model(from, key);
    this.trace.push(`repair of ${key}`);
    this.#applyBatch(from, to, [
      {
        message: { kind: 'write', key, state: from.whole(key), requests: from.remembered(key) },
        model: { ...before, closed: new Set() },
      },
    ]);
  }

  /** Heals all links: everything arrives. */
  drain(): void {
    this.trace.push('all links heal');
    this.#away.clear();
    this.#exchange();
    this.#purging.finish();
  }

  /** Until nothing more is on its way between nodes that are not cut off: what is applied may be published by whom applied it. */
  #exchange(): void {
    for (let busy = true; busy;) {
      busy = false;
      for (const from of this.nodes) {
        for (const to of this.nodes) {
          if (from === to || this.#away.has(from) || this.#away.has(to)) continue;
          this.#capture(from, to, Number.MAX_SAFE_INTEGER, 0);
          for (const edge = this.#edge(from, to); edge.underWay.length > 0; busy = true)
            this.#deliver(from, to, 3);
        }
      }
    }
  }

  /** Transactions up to the last that was applied whole. */
  #mergedCounter(origin: SimNode, holder: SimNode): number {
    const { applied } = this.#edge(origin, holder);
    return applied === 0 ? 0 : this.#counters[origin.number - 1]![applied - 1]!;
  }

  #purge(step: Step & { kind: 'purge' }): void {
    if (step.key !== null) {
      if (step.synced) this.#exchange();
      this.#write(step.node, [{ key: step.key, deleted: true, request: null }]);
    }
    this.counts.purged += this.#purging.step(step, this.#nowMs);
  }
}
