/**
 * A change as a message: `pgquorum.v1.Change` in protobuf, with the key and the headers that go beside it. Pure: the parsed schema is given.
 *
 * Decoding gives back what was encoded, byte for byte in every column. The content type is a header, so that other encodings can
 * live on the same topic: who meets one he does not know stops rather than skip it.
 */
import { crc32 } from 'node:zlib';
import protobuf, { type Root, type Type } from 'protobufjs';
import { lsnText } from '../capture/lsn.ts';
import { PgquorumError, unreachable } from '../errors/error.ts';
import { dotText } from '../versioning/version.ts';
import { keyText, type Change } from './change.ts';
import { BackwardBytes } from './backward-bytes.ts';
import { ChangeReader } from './change-reader.ts';
import { ChangeWriter } from './change-writer.ts';
import { ChangeMessages, type ChangeMessage, type Commit, type DecodedChange } from './message.ts';
import { ProtoWriters, type WriteMessage } from './proto-writer.ts';
import { SharedHeaders, type RecordContent } from './record-batch.ts';

export const PROTOBUF = 'application/protobuf';

/** What travels beside the value. Header values are text. */
export interface EncodedChange {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

/** Names of the headers. */
export const header = {
  id: 'id',
  collection: 'collection',
  operation: 'op',
  contentType: 'content-type',
  commitTime: 'commit-time',
  lsn: 'lsn',
} as const;

/** Makes messages of changes; the writer of a topic needs no more of a format. */
export interface ChangeEncoder {
  record(change: Change, commit: Commit, originName: string): RecordContent;
}

export class ChangeCodec implements ChangeEncoder {
  readonly #type: Type;
  readonly #plain: Type;
  readonly #write: WriteMessage;
  readonly #messages: ChangeMessages;
  readonly #writer: ChangeWriter;
  readonly #reader: ChangeReader;
  readonly #headers = new ChangeHeaders(PROTOBUF);

  constructor(schema: Root) {
    this.#type = textAsBytes(schema).lookupType('pgquorum.v1.Change');
    this.#plain = schema.lookupType('pgquorum.v1.Change');
    const writers = new ProtoWriters();
    this.#write = writers.of(schema.lookupType('pgquorum.v1.Change'));
    this.#messages = new ChangeMessages(schema);
    this.#reader = new ChangeReader(this.#type.root, writers, this.#messages);
    this.#writer = new ChangeWriter(schema, writers, this.#messages);
  }

  encode(change: Change, commit: Commit, originName: string): EncodedChange {
    const record = this.record(change, commit, originName);
    const bytes = new BackwardBytes(1024);
    record.writeValue(bytes);
    return {
      key: Buffer.from(record.key, 'utf8'),
      value: bytes.view(),
      headers: { ...record.headers, ...record.shared?.values },
    };
  }

  /** The same, to be written where it is sent from. */
  record(change: Change, commit: Commit, originName: string): RecordContent {
    const id = eventId(change, commit);
    return {
      key: messageKey(change),
      ...this.#headers.of(change, commit, id),
      writeValue: (into) => {
        if (change.kind === 'write' && ChangeWriter.takes(change))
          this.#writer.write(change, commit, { id, originName }, into);
        else this.#write(this.#messages.message(change, commit, { id, originName }), into);
      },
    };
  }

  decode(value: Buffer, contentType: string | undefined): DecodedChange {
    if (contentType !== PROTOBUF)
      throw new PgquorumError(
        'not_supported',
        `a change log message of the content type ${JSON.stringify(contentType ?? '')} cannot be read`,
      );
    const common = this.#reader.read(value);
    if (common !== null) return common;
    const decoded = this.#messages.change(this.#parse(value));
    if (decoded.change.kind === 'write' && decoded.change.row !== null)
      this.#reader.learn(decoded.change.row.table);
    return decoded;
  }

  /** A value in the JSON form of its message, for people: 64-bit numbers and names of enums as texts, bytes in base64. */
  inspect(value: Buffer): Record<string, unknown> {
    return this.#plain.toObject(this.#plain.decode(value), {
      longs: String,
      enums: String,
      bytes: String,
      json: true,
    });
  }

  #parse(value: Buffer): ChangeMessage {
    try {
      return this.#type.decode(value) as unknown as ChangeMessage;
    } catch (cause) {
      throw new PgquorumError('invariant_broken', 'a change log message is not a pgquorum.v1.Change', {
        cause,
      });
    }
  }
}

/** What stands beside the value in any format. */
export class ChangeHeaders {
  readonly #contentType: string;
  readonly #scratch = new BackwardBytes(256);
  /** What was encoded last: it is the same for all changes of a commit. */
  #last: { commit: Commit; operation: string; collection: string | null; shared: SharedHeaders } | undefined;

  constructor(contentType: string) {
    this.#contentType = contentType;
  }

  of(change: Change, commit: Commit, id: string): Pick<RecordContent, 'headers' | 'shared'> {
    const operation = operationText(change);
    const collection = change.kind === 'heartbeat' ? null : change.collection;
    let last = this.#last;
    if (last?.commit !== commit || last.operation !== operation || last.collection !== collection) {
      const shared = new SharedHeaders(this.#values(commit, operation, collection), this.#scratch);
      this.#last = last = { commit, operation, collection, shared };
    }
    return { headers: { [header.id]: id }, shared: last.shared };
  }

  #values(commit: Commit, operation: string, collection: string | null): Record<string, string> {
    return {
      [header.operation]: operation,
      [header.contentType]: this.#contentType,
      [header.commitTime]: new Date(commit.commitTimeMs).toISOString(),
      [header.lsn]: lsnText(commit.commitLsn),
      ...(collection === null ? {} : { [header.collection]: collection }),
    };
  }
}

/** The schema by which texts of columns are read as the bytes that they are, which is the same on the wire: most go on to Postgres as they came. */
function textAsBytes(schema: Root): Root {
  const copy = protobuf.Root.fromJSON(schema.toJSON());
  copy.lookupType('pgquorum.v1.ColumnValue').fields['text']!.type = 'bytes';
  return copy;
}

/** The same for every delivery of an event, and different from that of every other event of the log. */
export function eventId(change: Change, commit: Commit): string {
  switch (change.kind) {
    case 'write': {
      const hash = crc32(`${change.collection}\0${keyText(change.key)}`)
        .toString(16)
        .padStart(8, '0');
      return `${dotText(change.version.dot)}.${hash}`;
    }
    case 'conflict':
      return `conflict.${change.record.id}.${change.record.state}.${change.record.stateHlc}.${change.record.stateOrigin}`;
    case 'heartbeat':
      return `heartbeat.${commit.origin}.${commit.commitLsn}`;
    default:
      return unreachable(change);
  }
}

/** Heartbeats have the empty collection's empty key: a topic may demand that there is one. */
export const messageKey = (change: Change): string =>
  change.kind === 'heartbeat' ? '\0' : `${change.collection}\0${keyText(change.key)}`;

function operationText(change: Change): string {
  if (change.kind !== 'write') return change.kind;
  return change.version.deleted ? 'delete' : 'upsert';
}
