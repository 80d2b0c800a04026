/** The order in which a table's key sorts the keys of a batch: that of its types and collations, which only the server knows. */
import { keyText } from '../changelog/change.ts';
import type { CollectionStatements } from './collection-statements.pg.ts';
import type { KeyWork } from './key-work.ts';
import { keyOrderSql } from './statements.ts';

/** Key text -> place. */
export type KeyOrder = ReadonlyMap<string, number>;

export async function readKeyOrder(
  statements: CollectionStatements,
  works: readonly KeyWork[],
): Promise<KeyOrder> {
  const found = await statements.run(
    'order',
    keyOrderSql(statements.table),
    statements.keyArrays(works.map((work) => work.key)),
  );
  const places = String(found.rows[0]!['places']).split(' ');
  return new Map(places.map((at, place) => [keyText(works[Number(at)]!.key), place]));
}

export function inOrder<T>(order: KeyOrder, items: readonly T[], keyOf: (item: T) => readonly string[]): T[] {
  return items
    .map((item) => ({ item, place: order.get(keyText(keyOf(item)))! }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}
