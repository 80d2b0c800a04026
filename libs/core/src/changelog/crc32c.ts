/**
 * CRC-32C, the checksum of Kafka's record batches. Pure. (zlib's crc32 has another polynomial.)
 * The processor has an instruction for it, which JavaScript cannot reach: 0.8 us for 3.3 kB where the tables take 4.4. They serve where there
 * is no library for the machine.
 */

const polynomial = 0x82f63b78;

/** Eight tables let eight bytes be looked up at once: half the time of one table a byte, 5 us for 3 kB. */
const tables = makeTables();

function makeTables(): readonly Int32Array[] {
  const made = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
    made[0]![byte] = crc;
  }
  for (let at = 1; at < 8; at += 1) {
    for (let byte = 0; byte < 256; byte += 1) {
      const before = made[at - 1]![byte]!;
      made[at]![byte] = (before >>> 8) ^ made[0]![before & 255]!;
    }
  }
  return made;
}

type Checksum = (bytes: Uint8Array) => number;
/** Undefined where it has no build for the machine: the tables give the same. */
export const nativeCrc32c: Checksum | undefined = await import('@node-rs/crc32').then(
  ({ crc32c: native }) => native,
  () => undefined,
);

/** Of these bytes, as an unsigned number. */
export const crc32c: Checksum = nativeCrc32c ?? ((bytes) => tableCrc32c(bytes));

/** Of the bytes from `from` on. */
export function tableCrc32c(bytes: Uint8Array, from = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = tables as [
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  let crc = -1;
  let at = from;
  // Words can only be read where memory is aligned. They are little-endian, as is every machine that Node runs on but one.
  for (; at < bytes.length && ((bytes.byteOffset + at) & 3) !== 0; at += 1)
    crc = t0[(crc ^ bytes[at]!) & 255]! ^ (crc >>> 8);
  const pairs = littleEndian ? Math.max(bytes.length - at, 0) >>> 3 : 0;
  const words = new Int32Array(
    bytes.buffer,
    bytes.byteOffset + at - ((bytes.byteOffset + at) & 3),
    pairs * 2,
  );
  for (let word = 0; word < words.length; word += 2) {
    const low = crc ^ words[word]!;
    const high = words[word + 1]!;
    crc =
      t7[low & 255]! ^
      t6[(low >>> 8) & 255]! ^
      t5[(low >>> 16) & 255]! ^
      t4[low >>> 24]! ^
      t3[high & 255]! ^
      t2[(high >>> 8) & 255]! ^
      t1[(high >>> 16) & 255]! ^
      t0[high >>> 24]!;
  }
  for (at += pairs * 8; at < bytes.length; at += 1) crc = t0[(crc ^ bytes[at]!) & 255]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

const littleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;
