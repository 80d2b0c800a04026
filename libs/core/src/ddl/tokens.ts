/** SQL text as tokens, as far as telling statements, names and parentheses apart needs it. Pure. */
import { PgquorumError } from '../errors/error.ts';

export interface Token {
  readonly kind: 'word' | 'name' | 'text' | 'number' | 'sign';
  /** Of a word in lower case, of a quoted name without its quotes, else as it stands. */
  readonly value: string;
  readonly start: number;
  readonly end: number;
  /** How many parentheses are open around it. */
  readonly depth: number;
}

export const refused = (detail: string): PgquorumError => new PgquorumError('ddl_refused', detail);

const patterns: readonly (readonly [Token['kind'] | 'space', RegExp])[] = [
  ['space', /\s+|--[^\n]*/y],
  ['text', /(?:[eE]'(?:[^'\\]|\\[^]|'')*'|(?:[bBxXnN])?'(?:[^']|'')*')/y],
  ['text', /\$([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$[^]*?\$\1\$/y],
  ['name', /"(?:[^"\0]|"")+"/y],
  ['word', /[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y],
  ['number', /\d[\w.]*|\.\d\w*/y],
  ['sign', /::|[^\s\w'"$]/y],
];

export function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  let depth = 0;
  for (let at = 0; at < text.length;) {
    const { kind, value } = next(text, at);
    const start = at;
    at += value.length;
    if (kind === 'space') continue;
    if (kind === 'sign' && value === ')') depth -= 1;
    if (depth < 0) throw refused('the statement closes a parenthesis that it did not open');
    tokens.push({ kind, value: readable(kind, value), start, end: at, depth });
    if (kind === 'sign' && value === '(') depth += 1;
  }
  if (depth > 0) throw refused('the statement leaves a parenthesis open');
  return tokens;
}

function next(text: string, at: number): { kind: Token['kind'] | 'space'; value: string } {
  if (text.startsWith('/*', at)) return { kind: 'space', value: text.slice(at, commentEnd(text, at)) };
  if (/[uU]&['"]/y.test(text.slice(at, at + 3))) throw refused('escapes of the form U& are not taken');
  for (const [kind, pattern] of patterns) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found !== null) return { kind, value: found[0] };
  }
  throw refused('a text or a quoted name of the statement has no end');
}

/** Comments in SQL nest. */
function commentEnd(text: string, from: number): number {
  let open = 1;
  for (let at = from + 2; at < text.length; at++) {
    const two = text.slice(at, at + 2);
    if (two !== '/*' && two !== '*/') continue;
    open += two === '/*' ? 1 : -1;
    at += 1;
    if (open === 0) return at + 1;
  }
  throw refused('a comment of the statement has no end');
}

function readable(kind: Token['kind'], value: string): string {
  if (kind === 'word') return value.toLowerCase();
  return kind === 'name' ? value.slice(1, -1).replaceAll('""', '"') : value;
}
