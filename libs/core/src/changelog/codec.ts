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
import { ChangeMessages, type ChangeMessage, type Commit, type DecodedChange } from './message.ts';
import { ProtoWriters, type WriteMessage } from './proto-writer.ts';
import type { RecordContent } from './record-batch.ts';

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
  readonly #headers = new ChangeHeaders(PROTOBUF);

  constructor(schema: Root) {
    this.#type = textAsBytes(schema).lookupType('pgquorum.v1.Change');
    this.#plain = schema.lookupType('pgquorum.v1.Change');
    this.#write = new ProtoWriters().of(schema.lookupType('pgquorum.v1.Change'));
    this.#messages = new ChangeMessages(schema);
  }

  encode(change: Change, commit: Commit, originName: string): EncodedChange {
    const record = this.record(change, commit, originName);
    const bytes = new BackwardBytes(1024);
    record.writeValue(bytes);
    return { key: Buffer.from(record.key, 'utf8'), value: bytes.view(), headers: record.headers };
  }

  /** The same, to be written where it is sent from. */
  record(change: Change, commit: Commit, originName: string): RecordContent {
    const id = eventId(change, commit);
    return {
      key: messageKey(change),
      headers: this.#headers.of(change, commit, id),
      writeValue: (into) => this.#write(this.#messages.message(change, commit, { id, originName }), into),
    };
  }

  decode(value: Buffer, contentType: string | undefined): DecodedChange {
    if (contentType !== PROTOBUF)
      throw new PgquorumError(
        'not_supported',
        `a change log message of the content type ${JSON.stringify(contentType ?? '')} cannot be read`,
      );
    return this.#messages.change(this.#parse(value));
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
  /** Of the commit that was encoded last: its texts are the same for all its changes. */
  #texts: { commit: Commit; time: string; lsn: string } | undefined;

  constructor(contentType: string) {
    this.#contentType = contentType;
  }

  of(change: Change, commit: Commit, id: string): Record<string, string> {
    if (this.#texts?.commit !== commit)
      this.#texts = {
        commit,
        time: new Date(commit.commitTimeMs).toISOString(),
        lsn: lsnText(commit.commitLsn),
      };
    const headers: Record<string, string> = {
      [header.id]: id,
      [header.operation]: operationText(change),
      [header.contentType]: this.#contentType,
      [header.commitTime]: this.#texts.time,
      [header.lsn]: this.#texts.lsn,
    };
    if (change.kind !== 'heartbeat') headers[header.collection] = change.collection;
    return headers;
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
