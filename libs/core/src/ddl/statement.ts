/**
 * The statements that may run on all masters: what they do and to what, told without understanding all of SQL. Each is put together anew with the
 * table's full name, so that no search path and no other statement slips in. What a statement changes is looked at where it has run (rules.ts). Pure.
 */
import { quoteName } from '../postgres/identifier.ts';
import { refused, tokensOf, type Token } from './tokens.ts';

export interface RelationName {
  readonly schema: string | null;
  readonly name: string;
}

export type DdlStatement =
  | {
      readonly kind: 'alter';
      readonly table: RelationName;
      /** What follows the table's name. */
      readonly actions: string;
      /** Only adds columns, or loosens: nothing on its way can be in the way. */
      readonly additive: boolean;
    }
  | {
      readonly kind: 'create-index';
      readonly table: RelationName;
      readonly index: string;
      readonly unique: boolean;
      readonly ifNotExists: boolean;
      readonly definition: string;
    }
  | { readonly kind: 'drop-index'; readonly index: RelationName; readonly ifExists: boolean };

export const statementBytesMax = 20_000;
const offered = 'alter table, create index and drop index can be run on all masters';

export function parseDdl(text: string): DdlStatement {
  if (Buffer.byteLength(text) > statementBytesMax)
    throw refused(`the statement is longer than ${statementBytesMax} bytes`);
  if (text.includes('\0')) throw refused('the statement has a character NUL');
  const reader = new Reader(text);
  if (reader.words('alter', 'table')) return parseAlter(reader);
  if (reader.words('create', 'index')) return parseCreate(reader, false);
  if (reader.words('create', 'unique', 'index')) return parseCreate(reader, true);
  if (reader.words('drop', 'index')) return parseDrop(reader);
  throw refused(offered);
}

export const alterSql = (statement: DdlStatement & { kind: 'alter' }, table: string): string =>
  `alter table ${table} ${statement.actions}`;

export const createIndexSql = (
  { unique, index, definition }: DdlStatement & { kind: 'create-index' },
  { table, concurrently }: { readonly table: string; readonly concurrently: boolean },
): string =>
  `create ${unique ? 'unique ' : ''}index ${concurrently ? 'concurrently ' : ''}${quoteName(index)} on ${table} ${definition}`;

class Reader {
  readonly tokens: readonly Token[];
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
    const tokens = tokensOf(text);
    while (tokens.at(-1)?.value === ';' && tokens.at(-1)?.kind === 'sign') tokens.pop();
    if (tokens.some(({ kind, value }) => kind === 'sign' && value === ';'))
      throw refused('one statement at a time');
    this.tokens = tokens;
  }

  /** Takes these words if they come next. */
  words(...values: readonly string[]): boolean {
    const follows = values.every((value, at) => isWord(this.tokens[this.#at + at], value));
    if (follows) this.#at += values.length;
    return follows;
  }

  name(what: string): string {
    const token = this.tokens[this.#at];
    if (token === undefined || (token.kind !== 'word' && token.kind !== 'name'))
      throw refused(`the statement has no ${what}`);
    this.#at += 1;
    return token.value;
  }

  relation(what: string): RelationName {
    const first = this.name(what);
    if (!this.sign('.')) return { schema: null, name: first };
    return { schema: first, name: this.name(what) };
  }

  sign(value: string): boolean {
    const token = this.tokens[this.#at];
    const follows = token?.kind === 'sign' && token.value === value;
    if (follows) this.#at += 1;
    return follows;
  }

  /** All that is left, as it was written. */
  rest(): { readonly text: string; readonly tokens: readonly Token[] } {
    const tokens = this.tokens.slice(this.#at);
    if (tokens.length === 0) throw refused('the statement says nothing of what to do');
    return { text: this.#text.slice(tokens[0]!.start, tokens.at(-1)!.end), tokens };
  }

  get ended(): boolean {
    return this.#at === this.tokens.length;
  }
}

const isWord = (token: Token | undefined, value: string): boolean =>
  token?.kind === 'word' && token.value === value;

function parseAlter(reader: Reader): DdlStatement {
  reader.words('if', 'exists');
  reader.words('only');
  const table = reader.relation('table');
  reader.sign('*');
  const { text, tokens } = reader.rest();
  const actions = split(tokens).map(actionOf);
  if (actions.length > 1 && actions.some(({ alone }) => alone))
    throw refused('rename is a statement of its own');
  return { kind: 'alter', table, actions: text, additive: actions.every(({ additive }) => additive) };
}

/** At commas outside of parentheses. */
function split(tokens: readonly Token[]): Token[][] {
  const parts: Token[][] = [[]];
  for (const token of tokens) {
    if (token.kind === 'sign' && token.value === ',' && token.depth === 0) parts.push([]);
    else parts.at(-1)!.push(token);
  }
  return parts;
}

interface Action {
  readonly additive: boolean;
  readonly alone: boolean;
}

const some: Action = { additive: false, alone: false };
const loosens: Action = { additive: true, alone: false };

/** What else there is (owner, schema, triggers, row-level security, replica identity, partitions…) is not for all masters at once. */
function actionOf(tokens: readonly Token[]): Action {
  const words = tokens.map((token) => (token.kind === 'word' ? token.value : ''));
  const [first = '', second = ''] = words;
  switch (first) {
    case 'add':
      return addAction(words);
    case 'drop':
      return some;
    case 'validate':
      if (second === 'constraint') return loosens;
      break;
    case 'set':
    case 'reset':
      if (tokens[1]?.value === '(') return loosens;
      break;
    case 'rename': {
      const names = second === 'column' ? tokens.slice(2) : tokens.slice(1);
      if (names.length === 3 && isWord(names[1], 'to')) return { additive: false, alone: true };
      break;
    }
    case 'alter':
      return alterColumnAction(words, second === 'column' ? 3 : 2);
  }
  throw refused(`${['alter table …', first, second].join(' ').trim()} can not be run on all masters`);
}

function addAction(words: readonly string[]): Action {
  const constraint = words[1] === 'constraint' ? words[3] : words[1];
  if (constraint === 'check' && words[1] !== 'column') return some;
  if (words[1] === 'constraint' || ['primary', 'unique', 'foreign', 'exclude'].includes(words[1] ?? ''))
    throw refused(
      'of constraints only checks are taken: what is unique, or refers to another row, on one master need not be so on all',
    );
  return loosens;
}

function alterColumnAction(words: readonly string[], at: number): Action {
  const what = words.slice(at, at + 3).join(' ');
  if (/^(type|set data type)\b/.test(what) || /^set not null$/.test(what)) return some;
  if (/^(drop not null|set default|drop default|set statistics|set storage|set compression)\b/.test(what))
    return loosens;
  throw refused('of columns the type, default, not null, statistics, storage and compression can be altered');
}

function parseCreate(reader: Reader, unique: boolean): DdlStatement {
  reader.words('concurrently');
  const ifNotExists = reader.words('if', 'not', 'exists');
  if (reader.words('on')) throw refused('the index needs a name, the same on all masters');
  const index = reader.name('name of an index');
  if (!reader.words('on')) throw refused('the name of an index has no schema, and on follows it');
  reader.words('only');
  const table = reader.relation('table');
  const { text } = reader.rest();
  return { kind: 'create-index', table, index, unique, ifNotExists, definition: text };
}

function parseDrop(reader: Reader): DdlStatement {
  reader.words('concurrently');
  const ifExists = reader.words('if', 'exists');
  const index = reader.relation('name of an index');
  reader.words('restrict');
  if (!reader.ended) throw refused('one index at a time, and without cascade');
  return { kind: 'drop-index', index, ifExists };
}
