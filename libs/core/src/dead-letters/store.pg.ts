/** Dead letters of all nodes: each is kept by the node that can not take the change, so lists ask every node, and say which did not answer. */
import type pg from 'pg';
import { changeCodec } from '../changelog/schema.files.ts';
import { PgquorumError } from '../errors/error.ts';
import type { Deadline } from '../postgres/deadline.ts';
import { isNodeFailure, type Node, type Nodes } from '../topology/nodes.pg.ts';
import { discardedSql } from './events.ts';
import { letterColumns, letterView, type LetterView, type StoredLetter } from './letter.ts';
import {
  compareLetters,
  letterConditions,
  makeCursor,
  parseLetterId,
  type LetterPosition,
  type LetterQuery,
} from './query.ts';

export interface LetterPage {
  readonly items: LetterView[];
  readonly nextCursor?: string;
  /** Nodes that could not be asked: what they keep is missing here. */
  readonly unreachable?: string[];
}

/** With what it carries, in the JSON form of `pgquorum.v1.Change`. */
export interface InspectedLetter extends LetterView {
  readonly payload: Record<string, unknown>;
}

export class DeadLetterStore {
  readonly #nodes: Nodes;

  constructor(nodes: Nodes) {
    this.#nodes = nodes;
  }

  /** Newest first. */
  async list(query: LetterQuery, deadline: Deadline): Promise<LetterPage> {
    const asked = query.node === null ? this.#nodes.all : [this.#node(query.node)];
    const unreachable: string[] = [];
    const pages = await Promise.all(
      asked.map(async (node) => {
        try {
          const rows = await node.run(deadline, (client) => readPage(client, query, node.name));
          return rows.map((letter) => ({ letter, place: placeOf(letter, node) }));
        } catch (cause) {
          if (!isNodeFailure(cause)) throw cause;
          unreachable.push(node.name);
          return [];
        }
      }),
    );
    const found = pages.flat().toSorted((a, b) => compareLetters(a.place, b.place));
    const shown = found.slice(0, query.limit);
    return {
      items: shown.map(({ letter, place }) => letterView(letter, place.node, (n) => this.#nodes.nameOf(n))),
      ...(found.length > shown.length ? { nextCursor: makeCursor(shown.at(-1)!.place) } : {}),
      ...(unreachable.length > 0 ? { unreachable: unreachable.toSorted() } : {}),
    };
  }

  async get(id: string, deadline: Deadline): Promise<InspectedLetter> {
    const { node, number } = this.place(id);
    const { rows } = await reached(node, () =>
      node.run(deadline, (client) =>
        client.query<StoredLetter & { payload: string }>(
          `select ${letterColumns}, encode(d.payload, 'base64') as payload from pgquorum.dead_letter d where d.id = $1::bigint`,
          [number],
        ),
      ),
    );
    const [found] = rows;
    if (found === undefined) throw new PgquorumError('dead_letter_not_found', `dead letter ${id}`);
    const { payload, ...letter } = found;
    return {
      ...letterView(letter, node.name, (n) => this.#nodes.nameOf(n)),
      payload: changeCodec().inspect(Buffer.from(payload, 'base64')),
    };
  }

  /** The change is given up: the node differs from others in this key until its next write. */
  async discard(id: string, by: string, deadline: Deadline): Promise<void> {
    const { node, number } = this.place(id);
    const gone = await reached(node, () =>
      node.run(deadline, (client) => client.query(discardedSql, [number, by])),
    );
    if (gone.rowCount === 0) throw new PgquorumError('dead_letter_not_found', `dead letter ${id}`);
  }

  /** Which node keeps the letter of this id, if it is there. */
  place(id: string): { readonly node: Node; readonly number: string } {
    const { node: name, number } = parseLetterId(id);
    const node = this.#nodes.byName(name);
    if (node === undefined) throw new PgquorumError('dead_letter_not_found', `there is no node ${name}`);
    return { node, number };
  }

  #node(name: string): Node {
    const node = this.#nodes.byName(name);
    if (node === undefined) throw new PgquorumError('invalid_request', `node: there is no node ${name}`);
    return node;
  }
}

/** What only one node can do, and it can not now. */
export async function reached<T>(node: Node, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!isNodeFailure(cause)) throw cause;
    throw new PgquorumError(
      'node_unreachable',
      `node ${node.name}, which keeps the letter, can not be used now`,
      {
        cause,
      },
    );
  }
}

const placeOf = ({ at, number }: StoredLetter, node: Node): LetterPosition => ({
  at,
  node: node.name,
  number,
});

/** One more than the limit. */
async function readPage(client: pg.ClientBase, query: LetterQuery, node: string): Promise<StoredLetter[]> {
  const values: unknown[] = [];
  const conditions = letterConditions(query, node, (value) => `$${values.push(value)}`);
  const { rows } = await client.query<StoredLetter>(
    `select ${letterColumns} from pgquorum.dead_letter d where ${conditions.join(' and ')} order by d.at desc, d.id desc limit ${query.limit + 1}`,
    values,
  );
  return rows;
}
