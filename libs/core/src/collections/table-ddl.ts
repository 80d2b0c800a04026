/**
 * The statements that make a table like one that is on another master: columns, key, constraints, indexes, sequences, comments, grants. What else a table
 * can have (triggers, rules, policies) its owner has to make; then attach finds the table and does not create it. Pure.
 */
import type { ExistingColumn, ExistingTable } from './existing-table.ts';
import { quoteName, quoteTable, quoteText } from '../postgres/identifier.ts';

export interface SequenceStart {
  readonly start: bigint;
  readonly increment: bigint;
}

/** Why the table can not be made from its description alone. */
export function notCreatable(table: ExistingTable): string[] {
  return [
    ...(table.triggersAll > 0 ? ['it has triggers'] : []),
    ...(table.rules > 0 ? ['it has rules'] : []),
    ...(table.policies > 0 || table.hidesRows ? ['it has row-level security'] : []),
    ...table.columns.flatMap(({ name, sequence }) =>
      sequence?.tie === 'used'
        ? [`column ${quoteName(name)} draws from sequence ${quoteTable(sequence)}, which is not its own`]
        : [],
    ),
  ];
}

export interface CreateLikeOptions {
  readonly table: ExistingTable;
  /** Key column -> what its sequence is to be on this node. */
  readonly sequences: ReadonlyMap<string, SequenceStart>;
  readonly roles: readonly string[];
}

export function createLikeStatements({ table, sequences, roles }: CreateLikeOptions): string[] {
  const target = quoteTable(table);
  return [
    ...table.columns.flatMap((column) =>
      column.sequence?.tie === 'owned'
        ? [
            `create sequence ${quoteTable(column.sequence)} as ${column.sequence.type} ${sequenceOptions(column, sequences)}`,
          ]
        : [],
    ),
    `create table ${target} (${[
      ...table.columns.map((column) => columnSql(column, sequences)),
      ...(table.key === null ? [] : [`constraint ${quoteName(table.key.name)} ${table.key.definition}`]),
      ...table.constraints.map(({ name, definition }) => `constraint ${quoteName(name)} ${definition}`),
    ].join(', ')})${table.options.length > 0 ? ` with (${table.options.map(optionSql).join(', ')})` : ''}`,
    ...table.columns.flatMap((column) => [
      ...(column.sequence?.tie === 'owned'
        ? [`alter sequence ${quoteTable(column.sequence)} owned by ${target}.${quoteName(column.name)}`]
        : []),
      ...(column.storage === null
        ? []
        : [
            `alter table ${target} alter column ${quoteName(column.name)} set storage ${storages[column.storage]}`,
          ]),
      ...(column.comment === null
        ? []
        : [`comment on column ${target}.${quoteName(column.name)} is ${quoteText(column.comment)}`]),
    ]),
    ...table.indexes.map(({ definition }) => definition),
    ...table.foreignKeys.map(
      ({ name, definition }) => `alter table ${target} add constraint ${quoteName(name)} ${definition}`,
    ),
    ...(table.comment === null ? [] : [`comment on table ${target} is ${quoteText(table.comment)}`]),
    ...(table.replicaIdentity === 'f' ? [`alter table ${target} replica identity full`] : []),
    ...table.grants
      .filter(({ role }) => role === null || roles.includes(role))
      .map(
        ({ role, privilege, grantable }) =>
          `grant ${privilege} on ${target} to ${role === null ? 'public' : quoteName(role)}${grantable ? ' with grant option' : ''}`,
      ),
  ];
}

const storages: Readonly<Record<string, string>> = {
  p: 'plain',
  e: 'external',
  x: 'extended',
  m: 'main',
};

function optionSql(option: string): string {
  const at = option.indexOf('=');
  return `${option.slice(0, at)} = ${quoteText(option.slice(at + 1))}`;
}

function columnSql(column: ExistingColumn, sequences: ReadonlyMap<string, SequenceStart>): string {
  const { collation } = column;
  return [
    quoteName(column.name),
    column.type,
    ...(collation === null || collation.isTypes ? [] : [`collate ${collation.name}`]),
    ...(column.generated === ''
      ? column.identity === ''
        ? column.default === null
          ? []
          : [`default ${column.default}`]
        : [
            `generated ${column.identity === 'a' ? 'always' : 'by default'} as identity (${sequenceName(column)}${sequenceOptions(column, sequences)})`,
          ]
      : [`generated always as (${column.default}) ${column.generated === 's' ? 'stored' : 'virtual'}`]),
    ...(column.notNull ? ['not null'] : []),
  ].join(' ');
}

const sequenceName = ({ sequence }: ExistingColumn): string =>
  sequence === null ? '' : `sequence name ${quoteTable(sequence)} `;

function sequenceOptions(
  { name, sequence }: ExistingColumn,
  sequences: ReadonlyMap<string, SequenceStart>,
): string {
  if (sequence === null) return '';
  const given = sequences.get(name);
  return `increment by ${given?.increment ?? sequence.increment} minvalue ${sequence.min} maxvalue ${sequence.max} start with ${given?.start ?? sequence.start} cache ${sequence.cache}${sequence.cycle ? ' cycle' : ''}`;
}
