/** Nothing empty is kept in a CRDT state: equal states are equal JSON. Pure. */
export function unlessEmpty<T extends object>(value: T): T | undefined {
  // Faster than counting the keys, which this is called for with every merge.
  for (const key in value) if (Object.hasOwn(value, key)) return value;
  return undefined;
}
