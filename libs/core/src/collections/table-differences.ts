/** In what two masters' tables of one name differ, as far as rows of the one could not stand in the other. Pure. */
import type { ExistingColumn, ExistingTable } from './existing-table.ts';
import { quoteName } from '../postgres/identifier.ts';

export function tableDifferences(a: ExistingTable, b: ExistingTable): string[] {
  const differences: string[] = [];
  for (const column of a.columns) {
    const other = b.columns.find(({ name }) => name === column.name);
    if (other === undefined) differences.push(`it has no column ${quoteName(column.name)}`);
    else differences.push(...columnDifferences(column, other));
  }
  for (const { name } of b.columns)
    if (!a.columns.some((column) => column.name === name))
      differences.push(`it has a column ${quoteName(name)} more`);
  const keyOf = (table: ExistingTable) => table.key?.columns.map(quoteName).join(', ') ?? 'none';
  if (keyOf(a) !== keyOf(b)) differences.push(`its key is (${keyOf(b)}), not (${keyOf(a)})`);
  const checks = (table: ExistingTable) =>
    table.constraints.map(({ definition }) => definition).filter((text) => text.startsWith('CHECK'));
  for (const check of checks(b))
    if (!checks(a).includes(check)) differences.push(`it has a constraint more: ${check}`);
  for (const check of checks(a))
    if (!checks(b).includes(check)) differences.push(`it has no constraint ${check}`);
  return differences;
}

function columnDifferences(a: ExistingColumn, b: ExistingColumn): string[] {
  const differences: string[] = [];
  const name = quoteName(a.name);
  if (a.type !== b.type) differences.push(`column ${name} is ${b.type}, not ${a.type}`);
  if (a.notNull !== b.notNull)
    differences.push(`column ${name} ${b.notNull ? 'does not take' : 'takes'} nulls`);
  if (a.generated !== b.generated || (a.generated !== '' && a.default !== b.default))
    differences.push(`column ${name} is generated in another way`);
  if (a.collation?.name !== b.collation?.name)
    differences.push(`column ${name} has collation ${b.collation?.name ?? 'none'}`);
  return differences;
}
