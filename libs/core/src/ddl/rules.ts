/** What a statement may change of a collection's table, told from how an empty copy of the table looked before and after it. Pure. */
import { whenMissing } from '../apply/missing-column.ts';
import type { CollectionDefinition, CollectionTable } from '../collections/definition.ts';
import { refused } from './tokens.ts';

export interface ColumnShape {
  /** Stays the same when the column is renamed. */
  readonly number: number;
  readonly name: string;
  /** With its length and the like. */
  readonly type: string;
  readonly collation: string | null;
  readonly notNull: boolean;
  readonly defaultSql: string | null;
  readonly generated: boolean;
  readonly identity: boolean;
}

export interface TableShape {
  readonly columns: readonly ColumnShape[];
  /** Definitions of what makes rows unique, or exclude each other. */
  readonly unique: readonly string[];
}

export function checkShapes(
  before: TableShape,
  after: TableShape,
  collection: { readonly table: CollectionTable; readonly definition: CollectionDefinition },
): void {
  const fixed = fixedColumns(collection);
  for (const column of before.columns) {
    const now = after.columns.find(({ number }) => number === column.number);
    const role = fixed.get(column.name);
    if (role !== undefined && !isSame(column, now))
      throw refused(`column ${column.name} is ${role} and stays as it is`);
    if (now !== undefined) checkChanged(column, now);
  }
  for (const column of after.columns)
    if (!before.columns.some(({ number }) => number === column.number)) checkAdded(column);
  if (JSON.stringify(before.unique) !== JSON.stringify(after.unique))
    throw refused('the primary key, and what is unique by constraint, stay as they are');
}

/** By name, with what they are. */
function fixedColumns({
  table,
  definition,
}: {
  readonly table: CollectionTable;
  readonly definition: CollectionDefinition;
}): Map<string, string> {
  const { embedding, metadata } = definition.attached ?? { embedding: 'embedding', metadata: 'metadata' };
  return new Map([
    ...(definition.attached?.updatedAt ? [[definition.attached.updatedAt, 'the time of rows'] as const] : []),
    ...(metadata === null ? [] : [[metadata, "the collection's metadata"] as const]),
    ...(embedding === null ? [] : [[embedding, "the collection's embedding"] as const]),
    ...table.key.map(({ name }) => [name, 'in the key'] as const),
  ]);
}

const isSame = (a: ColumnShape, b: ColumnShape | undefined): boolean =>
  b !== undefined &&
  a.name === b.name &&
  a.type === b.type &&
  a.collation === b.collation &&
  a.notNull === b.notNull &&
  a.generated === b.generated &&
  a.identity === b.identity;

function checkChanged(before: ColumnShape, now: ColumnShape): void {
  if (now.identity !== before.identity || now.generated !== before.generated)
    throw refused(`column ${before.name} can not become, or cease to be, computed or an identity`);
  if (!now.generated && now.defaultSql !== before.defaultSql && now.defaultSql !== null) checkDefault(now);
}

function checkAdded(column: ColumnShape): void {
  if (column.identity)
    throw refused(`column ${column.name}: each master would draw the same numbers for an identity`);
  if (!column.generated) checkDefault(column);
}

function checkDefault({ name, ...column }: ColumnShape): void {
  const missing = whenMissing(column);
  if (missing.kind === 'fill') return;
  throw refused(
    column.defaultSql === null
      ? `column ${name} needs a default, or may be null: rows are there already`
      : `column ${name}: the default has to be a constant, or each master fills its rows with something else`,
  );
}
