/**
 * Connections to Kafka. Each belongs to one user and ends with him: destroying it closes its sockets at once, whatever is on the wire, which
 * kafkajs by itself does not offer (its `disconnect` waits for the answers of a broker that may be frozen).
 */
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import tls from 'node:tls';
import { Kafka, logLevel, type Admin, type Cluster, type KafkaConfig } from 'kafkajs';
import { PgquorumError } from '../errors/error.ts';
import { delayedSocketsOf } from '../faults/delays.process.ts';
import { mendRequestQueue } from './internals.kafka.ts';

export interface KafkaAddress {
  readonly brokers: readonly string[];
  /** TLS and SASL, as kafkajs takes them. */
  readonly security?: Pick<KafkaConfig, 'ssl' | 'sasl'>;
}

const connectTimeoutMs = 5_000;
const requestTimeoutMs = 30_000;
const keepAliveMs = 60_000;
/** Retries inside of kafkajs stay short: its loops cannot be told to stop. The lasting ones wait by `Backoff`. */
const retry = { initialRetryTime: 50, maxRetryTime: 500 };

export class KafkaConnection {
  readonly #kafka: Kafka;
  readonly #sockets = new Set<net.Socket>();
  #destroyed = false;

  constructor({ brokers, security }: KafkaAddress) {
    mendRequestQueue();
    this.#kafka = new Kafka({
      clientId: 'pgquorum',
      brokers: [...brokers],
      ...security,
      connectionTimeout: connectTimeoutMs,
      requestTimeout: requestTimeoutMs,
      // As many retries as brokers: kafkajs tries them in turn.
      retry: { ...retry, retries: brokers.length },
      // Whatever kafkajs would log it also throws.
      logLevel: logLevel.NOTHING,
      socketFactory: ({ host, port, ssl, onConnect }) => this.#socket({ host, port, ssl, onConnect }),
    });
  }

  admin(): Admin {
    return this.#kafka.admin();
  }

  /**
   * The brokers themselves, to send to and fetch from partitions of one's own choice: kafkajs has no consumer without a group, and a group brings rebalances,
   * a coordinator and seconds of delay at the start. The type is public, but only partition assigners are handed one: this consumer is never connected.
   */
  cluster(): Cluster {
    let found: Cluster | undefined;
    this.#kafka.consumer({
      groupId: 'pgquorum-none',
      allowAutoTopicCreation: false,
      partitionAssigners: [
        ({ cluster }) => {
          found = cluster;
          const unused = (): never => {
            throw new PgquorumError('invariant_broken', 'pgquorum joins no consumer groups');
          };
          return { name: 'none', version: 0, assign: unused, protocol: unused };
        },
      ],
    });
    if (found === undefined) throw new PgquorumError('invariant_broken', 'kafkajs handed out no cluster');
    return found;
  }

  /** Requests on the wire are rejected, and what kafkajs would still connect to. */
  destroy(): void {
    this.#destroyed = true;
    for (const socket of this.#sockets) socket.destroy(closedByUser());
  }

  #socket({
    host,
    port,
    ssl,
    onConnect,
  }: {
    host: string;
    port: number;
    ssl: tls.ConnectionOptions | boolean;
    onConnect: () => void;
  }): net.Socket {
    if (this.#destroyed) return new net.Socket().destroy(closedByUser());
    // Without noDelay a small request behind an unanswered one waits for up to 40 ms.
    const common = { host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMs };
    const socket = ssl
      ? tls.connect(
          { ...common, ...(net.isIP(host) === 0 ? { servername: host } : {}), ...(ssl === true ? {} : ssl) },
          onConnect,
        )
      : (delayedSocketsOf('kafka')?.().connect(common, onConnect) ?? net.connect(common, onConnect));
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    return socket;
  }
}

const closedByUser = (): Error => new Error('the connection was closed by its user');

/** What kafkajs threw, without its wrappings. */
export function rootCause(error: unknown): Error & { type?: string } {
  let found = error instanceof Error ? error : new Error(String(error));
  while (found.cause instanceof Error && found.cause !== found) found = found.cause;
  return found;
}

/** Told of what goes wrong while the log tries again by itself, so that status and logs can show it. */
export interface KafkaObserver {
  failed?(problem: {
    readonly topic: string;
    readonly doing: 'reading' | 'appending';
    readonly error: Error;
    readonly retryInMs: number;
  }): void;
  /** It works again. */
  recovered?(now: { readonly topic: string; readonly doing: 'reading' | 'appending' }): void;
}

/** Growing pauses between attempts, for one thing that is attempted. */
export class Backoff {
  readonly #about: { topic: string; doing: 'reading' | 'appending' };
  readonly #observer: KafkaObserver;
  #failures = 0;

  constructor(about: { topic: string; doing: 'reading' | 'appending' }, observer: KafkaObserver) {
    this.#about = about;
    this.#observer = observer;
  }

  /** Ends early, without an error, when the signal aborts. */
  async wait(error: Error, signal: AbortSignal): Promise<void> {
    const retryInMs = Math.min(backoffMs.first * 2 ** this.#failures, backoffMs.last);
    this.#failures += 1;
    this.#observer.failed?.({ ...this.#about, error, retryInMs });
    await delay(retryInMs, undefined, { signal }).catch((reason: unknown) => {
      if (!signal.aborted) throw reason;
    });
  }

  succeeded(): void {
    if (this.#failures === 0) return;
    this.#failures = 0;
    this.#observer.recovered?.(this.#about);
  }
}

const backoffMs = { first: 50, last: 2_000 };
