/**
 * All that relies on the inside of kafkajs rather than on what it promises: a timer to mend, a request that it lacks, and requests that are encoded
 * and decoded elsewhere. kafkajs is pinned in package-lock.json; test/integration/kafka-log.test.ts fails when a newer one no longer fits.
 */
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import type { Broker } from 'kafkajs';

const require = createRequire(import.meta.url);

interface RequestQueue {
  pending: unknown[];
  scheduleCheckPendingRequests: (this: RequestQueue) => void;
}
const mended = Symbol('mended by pgquorum');

/**
 * After each response kafkajs 2.2 sets a timer for requests that wait, also when none does, and then with a negative time: Node 24 warns
 * (TimeoutNegativeWarning), and the timer does nothing. Whatever begins to wait later sets its own.
 */
export function mendRequestQueue(): void {
  const { prototype } = require('kafkajs/src/network/requestQueue/index.js') as {
    prototype: RequestQueue & { [mended]?: true };
  };
  if (prototype[mended] === true) return;
  const schedule = prototype.scheduleCheckPendingRequests;
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue): void {
    if (this.pending.length > 0) schedule.call(this);
  };
  prototype[mended] = true;
}

/** A request whose bytes are made elsewhere, and sent from where they are. */
export interface RawRequest {
  readonly apiKey: number;
  readonly apiVersion: number;
  readonly apiName: string;
  /** What follows the header. */
  readonly body: readonly Buffer[];
}

/** The part of a broker's connections that such requests use: kafkajs keeps the sockets, the authentication, the correlation and the time limit. */
interface Pool {
  connectionPool: {
    getConnectionByRequest(protocol: { request: { apiKey: number } }): Promise<{
      readonly clientId: string;
      readonly socket: Socket;
      isConnected(): boolean;
      isAuthenticated(): boolean;
      authenticate(): Promise<void>;
      nextCorrelationId(): number;
      readonly requestQueue: {
        push(pushed: {
          entry: object;
          expectResponse: true;
          requestTimeout: null;
          sendRequest: () => void;
        }): void;
      };
    }>;
  };
}

/** Sends a request and resolves with what follows the header of its answer. The body must not change until then, or until the connection is destroyed. */
export async function exchange(broker: Broker, { body, ...request }: RawRequest): Promise<Buffer> {
  const connection = await (broker as unknown as Pool).connectionPool.getConnectionByRequest({ request });
  if (!connection.isAuthenticated()) await connection.authenticate();
  // kafkajs notices the end of a connection only for requests that were queued before it.
  if (!connection.isConnected()) throw new Error('the connection to the broker has ended');
  const correlationId = connection.nextCorrelationId();
  const header = requestHeader(request, {
    correlationId,
    clientId: connection.clientId,
    bytes: body.reduce((sum, { length }) => sum + length, 0),
  });
  return new Promise((resolve, reject) => {
    connection.requestQueue.push({
      entry: {
        apiKey: request.apiKey,
        apiName: request.apiName,
        apiVersion: request.apiVersion,
        correlationId,
        resolve: ({ payload }: { payload: Buffer }) => resolve(payload),
        reject,
      },
      expectResponse: true,
      requestTimeout: null,
      sendRequest: () => {
        const { socket } = connection;
        socket.cork();
        socket.write(header);
        for (const part of body) socket.write(part);
        socket.uncork();
      },
    });
  });
}

/** Version 1 of the header, with the size of the whole request before it. */
function requestHeader(
  { apiKey, apiVersion }: Pick<RawRequest, 'apiKey' | 'apiVersion'>,
  { correlationId, clientId, bytes }: { correlationId: number; clientId: string; bytes: number },
): Buffer {
  const name = Buffer.from(clientId, 'utf8');
  const header = Buffer.alloc(14 + name.length);
  header.writeInt32BE(header.length - 4 + bytes, 0);
  header.writeInt16BE(apiKey, 4);
  header.writeInt16BE(apiVersion, 6);
  header.writeInt32BE(correlationId, 8);
  header.writeInt16BE(name.length, 12);
  name.copy(header, 14);
  return header;
}

/** The error that a code of Kafka's protocol stands for, as kafkajs names it. */
export function protocolError(code: number): Error & { readonly type?: string } {
  const errors = require('kafkajs/src/protocol/error.js') as {
    createErrorFromCode(code: number): Error & { readonly type?: string };
  };
  return errors.createErrorFromCode(code);
}

export interface ProducerIdentity {
  readonly producerId: bigint;
  readonly epoch: number;
}

/** A name under which Kafka recognises batches that it already has. Any broker gives them out. */
export async function newProducerIdentity(broker: Broker): Promise<ProducerIdentity> {
  const given = await (
    broker as unknown as {
      initProducerId(options: { transactionTimeout: number }): Promise<{
        producerId: string;
        producerEpoch: number;
      }>;
    }
  ).initProducerId({ transactionTimeout: 60_000 });
  return { producerId: BigInt(given.producerId), epoch: given.producerEpoch };
}

interface Encoder {
  writeUVarIntBytes(): Encoder;
  writeUVarIntString(value: string): Encoder;
  writeUVarIntArray(values: readonly Encoder[]): Encoder;
  writeBuffer(value: Buffer): Encoder;
  writeBoolean(value: boolean): Encoder;
}

/** The part of a broker's connections that sends a request described by its encoding. */
interface Sender {
  connectionPool: {
    send(protocol: {
      request: { apiKey: number; apiVersion: number; apiName: string; encode(): Promise<Encoder> };
      response: {
        decode(data: Buffer): Promise<{ topicId: string | null }>;
        parse(data: { topicId: string | null }): Promise<{ topicId: string | null }>;
      };
    }): Promise<{ topicId: string | null }>;
  };
}

const metadataApi = 3;
/** The first version with ids of topics (Kafka 2.8); kafkajs speaks up to 6. */
const metadataVersion = 10;

/**
 * The id that Kafka gave a topic when it was created: another topic of the same name has another one. Null for a topic that does not exist and
 * for a broker that is older than Kafka 2.8.
 */
export async function topicId(broker: Broker, topic: string): Promise<string | null> {
  const versions = (await broker.apiVersions()) as Record<number, { maxVersion: number } | undefined>;
  if ((versions[metadataApi]?.maxVersion ?? 0) < metadataVersion) return null;
  const { Encoder } = { Encoder: require('kafkajs/src/protocol/encoder.js') as new () => Encoder };
  const request = {
    apiKey: metadataApi,
    apiVersion: metadataVersion,
    apiName: 'Metadata',
    // The first empty tag buffer belongs to the request's header.
    encode: async () =>
      new Encoder()
        .writeUVarIntBytes()
        .writeUVarIntArray([
          new Encoder().writeBuffer(Buffer.alloc(16)).writeUVarIntString(topic).writeUVarIntBytes(),
        ])
        .writeBoolean(false)
        .writeBoolean(false)
        .writeBoolean(false)
        .writeUVarIntBytes(),
  };
  const response = {
    decode: async (data: Buffer) => ({ topicId: readTopicId(data) }),
    parse: async (data: { topicId: string | null }) => data,
  };
  return (await (broker as unknown as Sender).connectionPool.send({ request, response })).topicId;
}

/** Reads a Metadata response, version 10, up to the id of its first topic. */
function readTopicId(data: Buffer): string | null {
  let at = 0;
  const skip = (bytes: number): void => void (at += bytes);
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = data.readUInt8(at++);
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  /** Compact strings and arrays have their length plus one before them; 0 is null. */
  const compactLength = (): number => Math.max(varint() - 1, 0);
  const tags = (): void => {
    for (let left = varint(); left > 0; left -= 1) {
      varint();
      skip(varint());
    }
  };
  tags(); // of the response's header
  skip(4); // throttle time
  for (let brokers = compactLength(); brokers > 0; brokers -= 1) {
    skip(4); // node id
    skip(compactLength()); // host
    skip(4); // port
    skip(compactLength()); // rack
    tags();
  }
  skip(compactLength()); // cluster id
  skip(4); // controller
  if (compactLength() === 0) return null;
  const errorCode = data.readInt16BE(at);
  skip(2);
  skip(compactLength()); // name
  const hex = data.toString('hex', at, at + 16);
  return errorCode === 0
    ? `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
    : null;
}
