/**
 * Whether a database can join, before anything of it is known to anybody: the server, whose it is, and the tables of collections. All that is in the way is found at
 * once, each with the statement that mends it. Changes nothing.
 */
import type pg from 'pg';
import { listCollections, type CollectionRow } from '../collections/catalog.pg.ts';
import { inspectTable } from '../collections/inspect-table.pg.ts';
import { keySequences } from '../collections/key-sequences.ts';
import { createLikeStatements, notCreatable } from '../collections/table-ddl.ts';
import { tableDifferences } from '../collections/table-differences.ts';
import type { ExistingTable, NodeTable } from '../collections/existing-table.ts';
import type { NodeAddress } from '../config/settings.ts';
import { PgquorumError } from '../errors/error.ts';
import { closeClient, connect } from '../postgres/connect.pg.ts';
import { quoteTable } from '../postgres/identifier.ts';
import type { PreflightNeeds } from '../postgres/preflight-facts.ts';
import { preflight } from '../postgres/preflight.pg.ts';
import type { ClusterNode } from '../topology/found.pg.ts';

export interface JoinableOptions {
  readonly joiner: NodeAddress;
  readonly nodes: readonly ClusterNode[];
  readonly needs: PreflightNeeds;
  readonly allow: { readonly sequences: boolean };
}

/** Throws `preflight_failed` with everything that is in the way. */
export async function checkJoinable(options: JoinableOptions): Promise<void> {
  const found = [...(await serverProblems(options)), ...(await databaseProblems(options))];
  if (found.length > 0)
    throw new PgquorumError('preflight_failed', found.join('; and '), { extra: { found } });
}

/** What all nodes have, and the cluster runs with, keeps nobody out. */
async function serverProblems({ joiner, nodes, needs }: JoinableOptions): Promise<string[]> {
  const report = await preflight({ ...needs, nodes: [...nodes.map(({ address }) => address), joiner] });
  const errors = report.findings.filter(({ severity }) => severity === 'error');
  const everywhere = (check: string): boolean =>
    nodes.every(({ name }) => errors.some((one) => one.node === name && one.check === check));
  return errors
    .filter(({ node, check }) => node === joiner.name && !everywhere(check))
    .map(({ seen, why, mend }) =>
      mend === null
        ? `${seen}: ${why}`
        : `${seen}: ${why} (${mend.as === 'superuser' ? 'as a superuser: ' : ''}${mend.statements.join('; ')}${mend.restart ? ', then restart the server' : ''})`,
    );
}

/** Nothing where the server can not be reached: that is a problem of its own. */
async function databaseProblems(options: JoinableOptions): Promise<string[]> {
  const clients: pg.Client[] = [];
  const open = async (node: NodeAddress): Promise<pg.Client> => {
    const client = await connect(node, { application: 'pgquorum joining', answerWithinMs: 30_000 });
    clients.push(client);
    return client;
  };
  try {
    const client = await open(options.joiner).catch(() => null); // the preflight has said why
    if (client === null) return [];
    const other = await otherNode(client, options);
    if (other !== null) return [other];
    const members = [];
    for (const node of options.nodes) members.push({ name: node.name, client: await open(node.address) });
    const found: string[] = [];
    for (const collection of await listCollections(members[0]!.client))
      found.push(
        ...(await tableProblems(options, collection, [...members, { name: options.joiner.name, client }])),
      );
    return found;
  } finally {
    await Promise.all(clients.map(closeClient));
  }
}

/** A registration that was cut off left this very node there. */
async function otherNode(client: pg.Client, { joiner, needs }: JoinableOptions): Promise<string | null> {
  const known = await client.query<{ known: boolean }>(
    `select to_regclass('pgquorum.node') is not null as known`,
  );
  if (!known.rows[0]!.known) return null;
  const { rows } = await client.query<{ cluster: string; name: string; retired: boolean }>(
    'select n.cluster, n.name, coalesce(m.retired, false) as retired from pgquorum.node n left join pgquorum.member m on m.number = n.number',
  );
  const node = rows[0];
  if (node === undefined || (node.cluster === needs.cluster && node.name === joiner.name && !node.retired))
    return null;
  return `the database is node ${node.name} of cluster ${node.cluster}: make a new one, or take it out of there (drop publication if exists pgquorum; drop schema pgquorum cascade)`;
}

interface Place {
  readonly name: string;
  readonly client: pg.Client;
}

/** The last place is the joiner's. */
async function tableProblems(
  { allow }: JoinableOptions,
  { table, definition }: CollectionRow,
  places: readonly Place[],
): Promise<string[]> {
  const inspected: NodeTable[] = [];
  for (const { name, client } of places) {
    await client.query('begin');
    inspected.push(await inspectTable(client, name, { schema: table.schema, name: table.table }));
    await client.query('rollback');
  }
  const here = inspected.at(-1)!;
  const target = quoteTable({ schema: table.schema, name: table.table });
  if (definition.attached === undefined)
    return here.table === null || here.table.collection === table.collection
      ? []
      : [`${here.node} has a relation ${target}, which is a collection of the cluster: rename or drop it`];
  const like = inspected[0]!.table;
  if (like === null) return [`${target} is missing on ${inspected[0]!.node}`];
  if (here.table === null)
    return [`${here.node} lacks the attached table ${target}: ${creation(like, inspected)}`];
  if (here.table.collection === table.collection) return []; // its registration was cut off
  return [
    ...tableDifferences(like, here.table).map(
      (one) => `${target} on ${here.node} differs from that on ${inspected[0]!.node}: ${one}`,
    ),
    ...(here.table.hasRows
      ? [`${target} on ${here.node} has rows: a node joins without (truncate ${target})`]
      : []),
    ...(allow.sequences ? [] : sequenceProblems(target, inspected)),
  ];
}

function creation(like: ExistingTable, inspected: readonly NodeTable[]): string {
  const why = notCreatable(like);
  if (why.length > 0)
    return `create it as it is elsewhere, without rows, with pg_dump --schema-only (${why.join('; ')})`;
  const starts = keySequences(inspected).created;
  const sequences = new Map(
    [...starts].flatMap(([column, places]) => {
      const start = places.get(inspected.at(-1)!.node);
      return start === undefined ? [] : [[column, start] as const];
    }),
  );
  return createLikeStatements({ table: like, sequences, roles: [] }).join('; ');
}

function sequenceProblems(target: string, inspected: readonly NodeTable[]): string[] {
  const { statements } = keySequences(inspected);
  return (statements ?? []).map(
    ({ node, statement }) =>
      `keys of ${target} are drawn from sequences that would give the same numbers on several nodes: on ${node} ${statement}, or allow it with {"allow": {"sequences": true}}`,
  );
}
