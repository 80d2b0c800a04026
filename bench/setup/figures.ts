/** Numbers of several rounds as one, and lines that say how they stand to their goals. Pure but for what it prints. */

export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export const rate = (count: number, ms: number): number => (count * 1000) / ms;

export const whole = (value: number): string => Math.round(value).toLocaleString('en');

export interface Figure {
  readonly name: string;
  /** What was measured, with its unit. */
  readonly value: string;
  /** Against the baseline of the same run: what it was compared with comes in `against`. */
  readonly ratio?: number;
  readonly against?: string;
  readonly goal?: { readonly text: string; readonly met: boolean };
}

let missed = false;

export function title(text: string): void {
  process.stdout.write(`\n${text}\n${'-'.repeat(text.length)}\n`);
}

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function show(figure: Figure): void {
  const ratio = figure.ratio === undefined ? '' : `${figure.ratio.toFixed(2)} of ${figure.against}`;
  const goal = figure.goal === undefined ? '' : `${figure.goal.met ? 'met' : 'MISSED'}: ${figure.goal.text}`;
  missed ||= figure.goal?.met === false;
  say(`${figure.name.padEnd(44)}${figure.value.padStart(26)}  ${ratio.padEnd(26)}${goal}`.trimEnd());
}

/** With BENCH_STRICT=1 a missed goal is an error; else it is shown only, for a busy machine misses goals that a quiet one meets. */
export function finish(): void {
  if (missed && process.env['BENCH_STRICT'] === '1') process.exitCode = 1;
}

/** Rounds of each measurement: 3 unless BENCH_ROUNDS says otherwise. */
export const rounds = Number(process.env['BENCH_ROUNDS'] ?? 3);

/** A size that BENCH_<name> may set. */
export function size(name: string, otherwise: number): number {
  const value = Number(process.env[`BENCH_${name}`] ?? otherwise);
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`BENCH_${name} is ${process.env[`BENCH_${name}`]}: a whole number from 1 is needed`);
  return value;
}

/** The full sizes, which take many minutes; otherwise bounded ones. */
export const full = process.env['BENCH_FULL'] === '1';

/** The variants that are named on the command line, or all of them. */
export function chosen<T extends string>(all: readonly T[]): readonly T[] {
  const named = process.argv.slice(2);
  const unknown = named.filter((name) => !all.includes(name as T));
  if (unknown.length > 0) throw new Error(`there is no ${unknown.join(', ')}; there are ${all.join(', ')}`);
  return named.length > 0 ? all.filter((name) => named.includes(name)) : all;
}
