/** Why a table can not be attached, each reason with the way out, and what its owner should know. All reasons are found at once. Pure. */
import type { AttachRequest } from './attach-request.ts';
import type { ExistingTable, ForeignKey, NodeTable } from './existing-table.ts';
import { keySequences } from './key-sequences.ts';
import { tableDifferences } from './table-differences.ts';
import { quoteName, quoteTable } from '../postgres/identifier.ts';

export interface Refusal {
  /** Null where it concerns all nodes. */
  readonly node: string | null;
  readonly reason: string;
  readonly wayOut: string;
}

export interface Judgement {
  readonly refusals: readonly Refusal[];
  readonly warnings: readonly string[];
}

/** Key types with one canonical text each, as the replication protocol names them. */
const keyTypes = new Set(['int2', 'int4', 'int8', 'uuid', 'text', 'varchar', 'bool', 'date', 'bytea']);

/** The version table has these beside the key. */
const versionColumns = new Set([
  'rank',
  'epoch',
  'hlc',
  'origin',
  'counter',
  'clock',
  'seen',
  'deleted',
  'applied',
  'shard',
  'request',
  'crdt',
]);

type Note = Omit<Refusal, 'node'>;

export function judge(name: string, request: AttachRequest, nodes: readonly NodeTable[]): Judgement {
  const { schema, name: table } = request.table;
  const target = quoteTable(request.table);
  const holders = nodes.flatMap((node) => (node.table === null ? [] : [{ ...node, table: node.table }]));
  if (holders.length === 0)
    return refused(`there is no table ${target} on any node`, 'create it on one of them');
  if (schema === 'pgquorum' || schema === 'information_schema' || schema.startsWith('pg_'))
    return refused(`${target} belongs to the system`, 'attach a table of your own');
  const notes = holders.flatMap((node) =>
    [
      ...kindNotes(node.table),
      ...rightNotes(node.table, node.role),
      ...keyNotes(node.table),
      ...columnNotes(node.table, request),
      ...uniqueNotes(node.table, request),
      ...triggerNotes(node, request),
      ...feedNotes(node.table, name),
    ].map((note): Refusal => ({ node: node.node, ...note })),
  );
  const first = holders[0]!;
  const differences = holders.slice(1).flatMap((node) =>
    tableDifferences(first.table, node.table).map((difference): Refusal => ({
      node: node.node,
      reason: `${target} differs from that of ${first.node}: ${difference}`,
      wayOut:
        'make the tables alike, or drop the one that is not needed: attach creates it where it is missing',
    })),
  );
  return {
    refusals: [...notes, ...differences, ...sequenceRefusals(nodes, request)],
    warnings: holders.flatMap((node) => warningsOf(node)).filter((one, at, all) => all.indexOf(one) === at),
  };

  function refused(reason: string, wayOut: string): Judgement {
    return { refusals: [{ node: null, reason, wayOut: `${wayOut} (${schema}.${table})` }], warnings: [] };
  }
}

const kinds: Readonly<Record<string, string>> = {
  p: 'a partitioned table',
  v: 'a view',
  m: 'a materialized view',
  f: 'a foreign table',
  S: 'a sequence',
  i: 'an index',
  c: 'a composite type',
};

function kindNotes(table: ExistingTable): Note[] {
  const target = quoteTable(table);
  const notes: Note[] = [];
  if (table.kind === 'p')
    notes.push({
      reason: `${target} is a partitioned table: writes to a partition do not pass the triggers of its parent`,
      wayOut: `copy it into a plain table; pgquorum has shards of its own`,
    });
  else if (table.kind !== 'r')
    notes.push({
      reason: `${target} is ${kinds[table.kind] ?? 'no table'}`,
      wayOut: 'attach the table behind it',
    });
  else if (table.isPartition || table.isInherited)
    notes.push({
      reason: `${target} is a partition, or has to do with inheritance: rows of other tables show in it, or its rows in others`,
      wayOut: `alter table … detach partition, or alter table … no inherit`,
    });
  if (table.persistence !== 'p')
    notes.push({
      reason: `${target} is ${table.persistence === 'u' ? 'unlogged' : 'temporary'}: the WAL does not carry its rows`,
      wayOut: table.persistence === 'u' ? `alter table ${target} set logged` : 'attach a permanent table',
    });
  return notes;
}

function rightNotes(table: ExistingTable, role: string): Note[] {
  const target = quoteTable(table);
  const notes: Note[] = [];
  if (!table.isOwned)
    notes.push({
      reason: `role ${role} does not own ${target}: only the owner may add triggers and publish it`,
      wayOut: `grant ${quoteName(table.owner)} to ${quoteName(role)}, or alter table ${target} owner to ${quoteName(role)}`,
    });
  if (table.hidesRows)
    notes.push({
      reason: `row-level security hides rows of ${target} from role ${role}: they would be taken for deleted`,
      wayOut: `alter table ${target} no force row level security, with role ${quoteName(role)} as owner`,
    });
  return notes;
}

function keyNotes(table: ExistingTable): Note[] {
  const target = quoteTable(table);
  if (table.kind !== 'r') return [];
  if (table.key === null)
    return [
      {
        reason: `${target} has no primary key: nothing tells its rows apart on all masters`,
        wayOut: `alter table ${target} add primary key (…), e.g. over a new column: alter table ${target} add id uuid not null default gen_random_uuid() primary key`,
      },
    ];
  const notes: Note[] = [];
  if (table.key.deferrable)
    notes.push({
      reason: `the primary key of ${target} is deferrable: it can not decide between insert and update`,
      wayOut: `alter table ${target} drop constraint ${quoteName(table.key.name)}, add primary key (${table.key.columns.map(quoteName).join(', ')})`,
    });
  if (table.replicaIdentity === 'n')
    notes.push({
      reason: `the replica identity of ${target} is nothing: Postgres refuses updates of it once it is published`,
      wayOut: `alter table ${target} replica identity default`,
    });
  for (const name of table.key.columns) {
    const column = table.columns.find((one) => one.name === name)!;
    if (column.isDomain || !keyTypes.has(column.baseType))
      notes.push({
        reason: `key column ${quoteName(name)} has type ${column.type}, which has no single canonical text`,
        wayOut:
          'keys are of smallint, integer, bigint, uuid, text, varchar, boolean, date or bytea: alter table … alter column … type …',
      });
    if (column.collation?.deterministic === false)
      notes.push({
        reason: `key column ${quoteName(name)} has a nondeterministic collation: different texts are equal under it`,
        wayOut: `alter table ${target} alter column ${quoteName(name)} type ${column.type} collate "C"`,
      });
    if (versionColumns.has(name))
      notes.push({
        reason: `key column ${quoteName(name)} has the name of a column of the version table, which holds the key beside its own`,
        wayOut: `alter table ${target} rename column ${quoteName(name)} to …`,
      });
    if (column.generated !== '')
      notes.push({
        reason: `key column ${quoteName(name)} is generated: it can not be written`,
        wayOut: `alter table ${target} alter column ${quoteName(name)} drop expression`,
      });
  }
  return notes;
}

function columnNotes(table: ExistingTable, { updatedAtColumn }: AttachRequest): Note[] {
  const target = quoteTable(table);
  const notes: Note[] = [];
  for (const column of table.columns) {
    const isKey = table.key?.columns.includes(column.name) ?? false;
    if (column.send === null)
      notes.push({
        reason: `column ${quoteName(column.name)} has type ${column.type}, which has no binary form to send`,
        wayOut: `alter table ${target} alter column ${quoteName(column.name)} type text`,
      });
    if (column.identity === 'a' && !isKey)
      notes.push({
        reason: `column ${quoteName(column.name)} is generated always as identity: Postgres lets nobody update it, replication neither`,
        wayOut: `alter table ${target} alter column ${quoteName(column.name)} set generated by default`,
      });
  }
  if (updatedAtColumn !== null) {
    const column = table.columns.find(({ name }) => name === updatedAtColumn);
    if (!['timestamptz', 'timestamp', 'date'].includes(column?.baseType ?? ''))
      notes.push({
        reason:
          column === undefined
            ? `${target} has no column ${quoteName(updatedAtColumn)}`
            : `column ${quoteName(updatedAtColumn)} has type ${column.type}, which is no time`,
        wayOut: 'name a column of timestamptz, timestamp (read as UTC) or date, or none',
      });
  }
  return notes;
}

const uniqueNotes = (table: ExistingTable, { allow }: AttachRequest): Note[] =>
  allow.uniqueConstraints
    ? []
    : table.uniques.map(({ name, definition }) => ({
        reason: `${quoteTable(table)} has the constraint ${quoteName(name)} beside its key: masters that are written at once can both fulfil it and not fit together (${definition})`,
        wayOut: `drop it, or send allow.uniqueConstraints: true; a row that then violates it on another master becomes a dead letter there, which names both rows`,
      }));

/** Foreign keys by which a replicated write changes other replicated rows. */
const actingKeys = (table: ExistingTable): ForeignKey[] =>
  [...table.foreignKeys, ...table.referencedBy].filter(
    (key, at, all) =>
      key.acts &&
      key.bothReplicated &&
      all.findIndex((one) => one.definition === key.definition && one.name === key.name) === at,
  );

function triggerNotes(
  { table, replicaRole, role }: NodeTable & { table: ExistingTable },
  { allow }: AttachRequest,
): Note[] {
  const grant = `grant set on parameter session_replication_role to ${quoteName(role)} (Postgres 15 or later, by a superuser)`;
  const running = table.triggers.map((name) => ({ name, what: 'trigger' }));
  const acting = replicaRole
    ? []
    : actingKeys(table).map(({ name }) => ({ name, what: 'foreign key with an action' }));
  return [...running, ...acting]
    .filter(({ name }) => !allow.triggers.includes(name))
    .map(({ name, what }) => ({
      reason: `${what} ${quoteName(name)} of ${quoteTable(table)} would run again for every row that replication writes`,
      wayOut: `${replicaRole ? `alter table ${quoteTable(table)} enable trigger ${quoteName(name)}` : grant}, or declare it harmless: allow.triggers: [${JSON.stringify(name)}]`,
    }));
}

function feedNotes(table: ExistingTable, name: string): Note[] {
  const notes: Note[] = table.subscriptions.map((subscription) => ({
    reason: `subscription ${quoteName(subscription)} writes ${quoteTable(table)}: native logical replication fires no statement triggers, so its writes would have no versions`,
    wayOut: `drop subscription ${quoteName(subscription)}, or take the table out of its publication and refresh it`,
  }));
  if (table.collection !== null && table.collection !== name)
    notes.push({
      reason: `${quoteTable(table)} is the table of collection ${table.collection} already`,
      wayOut: `use that collection, or detach it first`,
    });
  return notes;
}

function sequenceRefusals(nodes: readonly NodeTable[], { allow }: AttachRequest): Refusal[] {
  const { statements } = keySequences(nodes);
  if (statements === null || allow.sequences) return [];
  return statements.map(({ node, statement }) => ({
    node,
    reason: 'several masters would draw the same keys from their sequences',
    wayOut: `${statement} (on this node), or send allow.sequences: true when applications give the keys themselves`,
  }));
}

function warningsOf({ table, replicaRole }: NodeTable & { table: ExistingTable }): string[] {
  return table.foreignKeys.map((key) => {
    const parent = quoteTable(key.to);
    const about = `foreign key ${quoteName(key.name)} refers to ${parent}`;
    const own = parent === quoteTable(table);
    if (!key.bothReplicated && !own)
      return `${about}, which is not replicated: attach it too, or see to it that every node has its rows${replicaRole ? '; replication itself does not check it' : '; rows without a parent wait, parked, until it is there'}`;
    return replicaRole
      ? `${about}: replication does not check it; a row can be there a moment before its parent`
      : `${about}: a row that comes before its parent waits, parked, until that is there`;
  });
}
