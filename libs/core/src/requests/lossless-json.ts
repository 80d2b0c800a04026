/**
 * JSON whose numbers survive: a number that JavaScript can not hold exactly (long integers, huge exponents) is kept as its text (`JSON.rawJSON`), which
 * `JSON.stringify` writes back as it was. Parsing costs nothing more unless such a number is there. Pure.
 */
interface RawJson {
  readonly rawJSON: string;
}
interface WithRawJson {
  rawJSON(text: string): RawJson;
  isRawJSON(value: unknown): value is RawJson;
  parse(
    text: string,
    reviver: (key: string, value: unknown, context: { source?: string }) => unknown,
  ): unknown;
}
const json = JSON as unknown as WithRawJson;

/** Sixteen digits in a row that no point or digit precedes, or an exponent of three digits: only then the slow path is taken. */
const mayLose = /(?:^|[^\d.])-?\d{16,}|[eE]\+?\d{3,}/;

export function parseLossless(text: string): unknown {
  if (!mayLose.test(text)) return JSON.parse(text) as unknown;
  return json.parse(text, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined && losesDigits(value, source)
      ? json.rawJSON(source)
      : value,
  );
}

function losesDigits(value: number, source: string): boolean {
  if (!Number.isFinite(value)) return true;
  return /^-?\d+$/.test(source) && String(value) !== source && BigInt(source) !== BigInt(value);
}

/** A number that is kept as its text. */
export const isRawNumber = (value: unknown): value is RawJson => json.isRawJSON(value);

export const rawNumber = (value: RawJson): number => Number(value.rawJSON);
