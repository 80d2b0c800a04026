/** Sums of safe integers that never lose a digit: beyond 2^53 - 1 they stop there, the same on every node whatever the order. Pure. */
export const counterMax = Number.MAX_SAFE_INTEGER;

export function sumOf(parts: readonly number[]): number {
  const total = exactSum(parts);
  if (typeof total === 'number') return total;
  const max = BigInt(counterMax);
  return Number(total > max ? max : total < -max ? -max : total);
}

/** True when counting `amount` more leads beyond what a number holds exactly. */
export function sumOverflows(parts: readonly number[], amount: number): boolean {
  const total = exactSum([...parts, amount]);
  if (typeof total === 'number') return false;
  return amount > 0 ? total > BigInt(counterMax) : total < -BigInt(counterMax);
}

function exactSum(parts: readonly number[]): number | bigint {
  let total = 0;
  let size = 0;
  for (const part of parts) {
    total += part;
    size += Math.abs(part);
  }
  return size <= counterMax ? total : parts.reduce((sum, part) => sum + BigInt(part), 0n);
}
