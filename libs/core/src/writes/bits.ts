/** A vector of bits as users send it, a text of 0 and 1 -> Postgres's binary format of `bit`. Pure. */
import { PgquorumError } from '../errors/error.ts';

export function parseBits(given: unknown, dimension: number): string {
  if (typeof given !== 'string' || !/^[01]*$/.test(given))
    throw new PgquorumError('invalid_vector', 'embedding: must be a text of 0 and 1');
  if (given.length !== dimension)
    throw new PgquorumError(
      'dimension_mismatch',
      `embedding: has ${given.length} dimensions, the collection has ${dimension}`,
    );
  return given;
}

/** The number of bits, then eight bits a byte, the first one highest; what is left of the last byte is zero. */
export function encodeBits(bits: string): Buffer {
  const buffer = Buffer.alloc(4 + Math.ceil(bits.length / 8));
  buffer.writeInt32BE(bits.length, 0);
  for (let at = 0; at < bits.length; at += 8)
    buffer[4 + at / 8] = Number.parseInt(bits.slice(at, at + 8).padEnd(8, '0'), 2);
  return buffer;
}
