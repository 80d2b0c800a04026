/**
 * Sets to which elements are added and from which they are removed, without tombstones: an element is there while one of its additions is. A removal
 * takes away the additions that it has seen; one that it has not seen survives it. Pure.
 */
import { PgquorumError } from '../../errors/error.ts';
import { emptyClock, join, type Clock } from '../clock.ts';
import type { Dot, NodeNumber } from '../version.ts';
import { mergeDots, type Dots, type SeenBy } from './dots.ts';
import { mergeEntries } from './entries.ts';
import { unlessEmpty } from './unless-empty.ts';

/** JSON text of an element -> the dots of its additions. */
export type Elements = { readonly [element: string]: Dots };
export type Element = string | boolean | number;

export const elementBytesMax = 1024;
export const elementsMax = 10_000;

/** The same text that Postgres makes of it as jsonb; null when it can not be an element. */
export function elementText(value: unknown): string | null {
  if (typeof value !== 'string')
    return typeof value === 'boolean' || Number.isSafeInteger(value) ? JSON.stringify(value) : null;
  if (value.includes('\0') || !value.isWellFormed()) return null;
  const text = JSON.stringify(value);
  return Buffer.byteLength(text) <= elementBytesMax ? text : null;
}

/** Undefined when no element is left. */
export const mergeElements = (
  a: Elements | undefined,
  b: Elements | undefined,
  seen: SeenBy,
): Elements | undefined => mergeEntries<Dots>(a, b, (ours, theirs) => mergeDots(ours, theirs, seen));

/** The new addition has seen all earlier ones of the element, and stands for them. */
export const addElement = (elements: Elements, element: string, dot: Dot): Elements => ({
  ...elements,
  [element]: { [dot.origin]: dot.counter },
});

/** Undefined when no element is left. */
export function removeElement(elements: Elements, element: string): Elements | undefined {
  const { [element]: _removed, ...rest } = elements;
  return unlessEmpty(rest);
}

/** False, true, numbers, texts; texts by code point, as Postgres's collation "C" has them. */
export function sortElements(texts: Iterable<string>): Element[] {
  return Array.from(texts, (text) => JSON.parse(text) as Element).sort(compareElements);
}

function compareElements(a: Element, b: Element): number {
  if (typeof a !== typeof b) return rank(a) - rank(b);
  if (typeof a === 'string') return compareTexts(a, b as string);
  return Number(a) - Number(b);
}

const rank = (element: Element): number => ['boolean', 'number', 'string'].indexOf(typeof element);

function compareTexts(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += 1) {
    if (a.charCodeAt(at) !== b.charCodeAt(at)) return codePointRank(a, at) - codePointRank(b, at);
  }
  return a.length - b.length;
}

/** Code units order like code points, but for halves of surrogate pairs: they stand below U+E000 to U+FFFF and belong above. */
function codePointRank(text: string, at: number): number {
  const unit = text.charCodeAt(at);
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

/**
 * A set to which elements are added and from which they are removed, as a value: no method changes it. Of an addition and a removal that did not know
 * of each other the addition wins.
 *
 *     const here = new OrSet(1).add('red').add('blue');
 *     const there = new OrSet(2).merge(here).remove('red');
 *     here.add('red').merge(there).values; // ['blue', 'red']
 */
export class OrSet {
  readonly node: NodeNumber;
  readonly #elements: Elements;
  readonly #seen: Clock;

  /** Each node, and each life of a node that lost its memory, must write under a number of its own. */
  constructor(node: number, state: { readonly elements: Elements; readonly seen: Clock } = emptySet) {
    this.node = node as NodeNumber;
    this.#elements = state.elements;
    this.#seen = state.seen;
  }

  add(value: Element): OrSet {
    const element = checkElement(value);
    const counter = (this.#seen[this.node] ?? 0) + 1;
    return new OrSet(this.node, {
      elements: addElement(this.#elements, element, { origin: this.node, counter }),
      seen: { ...this.#seen, [this.node]: counter },
    });
  }

  remove(value: Element): OrSet {
    const elements = removeElement(this.#elements, checkElement(value)) ?? {};
    return new OrSet(this.node, { elements, seen: this.#seen });
  }

  merge(other: OrSet): OrSet {
    const seen = { a: this.#seen, b: other.#seen };
    return new OrSet(this.node, {
      elements: mergeElements(this.#elements, other.#elements, seen) ?? {},
      seen: join(this.#seen, other.#seen),
    });
  }

  has(value: Element): boolean {
    return Object.hasOwn(this.#elements, checkElement(value));
  }

  /** Sorted: false, true, numbers, texts by code point. */
  get values(): Element[] {
    return sortElements(Object.keys(this.#elements));
  }

  toJSON(): { elements: Elements; seen: Clock } {
    return { elements: this.#elements, seen: this.#seen };
  }
}

const emptySet = Object.freeze({ elements: Object.freeze({}), seen: emptyClock });

function checkElement(value: unknown): string {
  const element = elementText(value);
  if (element === null)
    throw new PgquorumError(
      'invalid_request',
      `an element is a text of at most ${elementBytesMax} bytes, a boolean or a whole number`,
    );
  return element;
}
