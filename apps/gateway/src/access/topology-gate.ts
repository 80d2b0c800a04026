/**
 * What a caller without `topology:read` sees: answers without the fields that name nodes, and texts in which no node is named. Routes that are about
 * nodes are refused to them by the guard.
 */
import { PgquorumError } from '#core/errors/error.ts';
import type { Identity } from './identity.ts';

const mayOf = ({ rights }: Identity): boolean => rights.has('topology:read');

/** Fields whose values are names of nodes, or are made of them. */
export const nodeFields: ReadonlySet<string> = new Set([
  'coordinator',
  'acks',
  'node',
  'nodes',
  'origin',
  'winnerOrigin',
  'stateOrigin',
  'home',
  'unreachable',
  // Of jobs, whose arguments and results say what happens where.
  'arguments',
  'argumentsJson',
  'result',
  'resultJson',
]);
/** Objects and lists of our own; what callers have stored is never looked into. */
const containers: ReadonlySet<string> = new Set([
  'results',
  'items',
  'matches',
  'siblings',
  'version',
  'operation',
  'winner',
  'loser',
  'current',
  'attempt',
  'receipt',
  'job',
  'error',
  'refusals',
]);
/** Texts for people. */
const texts: ReadonlySet<string> = new Set(['detail', 'reason', 'problem', 'message']);
const textLists: ReadonlySet<string> = new Set(['problems', 'reasons', 'warnings']);

type Fields = Readonly<Record<string, unknown>>;

export class TopologyGate {
  readonly #nodeNames: () => readonly string[];

  /** `nodeNames`: as they are now. */
  constructor(nodeNames: () => readonly string[]) {
    this.#nodeNames = nodeNames;
  }

  /** An answer as the caller may see it. */
  show<T>(answer: T, identity: Identity): T {
    if (mayOf(identity) || typeof answer !== 'object' || answer === null) return answer;
    return this.#without(answer as Fields, this.#hidden()) as T;
  }

  showError(error: PgquorumError, identity: Identity): PgquorumError {
    if (mayOf(identity)) return error;
    const hide = this.#hidden();
    return new PgquorumError(error.code, hide(error.detail), {
      cause: error,
      extra: this.#without(error.extra, hide),
    });
  }

  #without(fields: Fields, hide: (text: string) => string): Record<string, unknown> {
    const shown: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(fields)) {
      if (nodeFields.has(name)) continue;
      // Of attach the nodes on which the table was made; of put whether it was.
      if (name === 'created' && Array.isArray(value)) continue;
      if (containers.has(name)) shown[name] = this.#inside(value, hide);
      else if (texts.has(name) && typeof value === 'string') shown[name] = hide(value);
      else if (textLists.has(name) && Array.isArray(value))
        shown[name] = value.map((text) => hide(String(text)));
      else shown[name] = value;
    }
    return shown;
  }

  #inside(value: unknown, hide: (text: string) => string): unknown {
    if (Array.isArray(value)) return value.map((one) => this.#inside(one, hide));
    if (typeof value !== 'object' || value === null) return value;
    return this.#without(value as Fields, hide);
  }

  #hidden(): (text: string) => string {
    const names = this.#nodeNames();
    if (names.length === 0) return (text) => text;
    const pattern = new RegExp(`(?<![\\w-])(?:${names.join('|')})(?![\\w-])`, 'g');
    return (text) => text.replaceAll(pattern, '(hidden)');
  }
}
