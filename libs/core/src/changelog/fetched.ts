/** Messages of a partition, as fetched, to batches of changes. Pure. */
import { PgquorumError } from '../errors/error.ts';
import type { Change, LogBatch } from './change.ts';
import { header, type ChangeCodec } from './codec.ts';
import type { DecodedChange } from './message.ts';
import type { ReadRecord } from './record-batch.ts';

/** The header that is read of every message. */
export const contentTypeHeader = Buffer.from(header.contentType, 'utf8');

/** A batch is not larger than this, whatever the transaction was: what follows is another part of it. */
const batchChangesMax = 1000;
const batchBytesMax = 4 * 1024 * 1024;

/** Changes of one transaction that follow one another become one batch. Every message has a position, so every part has one. */
export function* logBatches(
  messages: readonly ReadRecord[],
  { stream, codec }: { stream: number; codec: ChangeCodec },
): Generator<LogBatch, void, void> {
  let first: DecodedChange | null = null;
  let changes: Change[] = [];
  let bytes = 0;
  let position = -1n;
  const batch = ({ origin, commitTimeMs, commitLsn }: DecodedChange): LogBatch => ({
    origin,
    stream,
    changes,
    position,
    commitTimeMs,
    commitLsn,
    bytes,
  });
  for (const message of messages) {
    const decoded = decode(message, stream, codec);
    if (
      first !== null &&
      (decoded.commitLsn !== first.commitLsn || changes.length >= batchChangesMax || bytes >= batchBytesMax)
    ) {
      yield batch(first);
      first = null;
      changes = [];
      bytes = 0;
    }
    first ??= decoded;
    changes.push(decoded.change);
    bytes += message.value!.length;
    position = message.offset;
  }
  if (first !== null) yield batch(first);
}

function decode(
  { offset, value, header: contentType }: ReadRecord,
  stream: number,
  codec: ChangeCodec,
): DecodedChange {
  try {
    if (value === null) throw new PgquorumError('invariant_broken', 'a change log message has no value');
    return codec.decode(value, contentType);
  } catch (error) {
    if (!(error instanceof PgquorumError)) throw error;
    throw new PgquorumError(error.code, `partition ${stream}, offset ${offset}: ${error.detail}`, {
      cause: error,
    });
  }
}
