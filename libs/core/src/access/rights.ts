/**
 * What a caller may do: capabilities, those on vectors and collections for some collections or for all. No capability has another one in it. Pure.
 *
 * As text: grants divided by `;`, each one `<capability>[+<capability>…][@<collection>[+<collection>…]]`; `*` is every capability, and a collection that
 * ends with `*` every one that begins so. `vectors:read+vectors:write@docs+notes_*;cluster:read`
 */

/** May be given for some collections only. */
export const collectionCapabilities = [
  'vectors:read',
  'vectors:write',
  'collections:admin',
  'conflicts:write',
] as const;
/** Of the whole cluster. */
export const clusterCapabilities = [
  'cluster:read',
  'cluster:admin',
  'topology:read',
  'backups:admin',
] as const;

export type CollectionCapability = (typeof collectionCapabilities)[number];
export type Capability = CollectionCapability | (typeof clusterCapabilities)[number];

export const allCapabilities: readonly Capability[] = [...collectionCapabilities, ...clusterCapabilities];

const isCapability = (text: string): text is Capability =>
  (allCapabilities as readonly string[]).includes(text);
const isOfCollections = (capability: Capability): capability is CollectionCapability =>
  (collectionCapabilities as readonly string[]).includes(capability);

const collectionPattern = /^[a-z][a-z0-9_]{0,47}\*?$|^\*$/;

/** The wrong part of a text is not repeated: what was meant to be a secret may stand in its place. */
export class GrantMistake extends Error {}

export interface Grant {
  readonly capabilities: readonly Capability[];
  /** Names, and beginnings of names that end with `*`; null = all. */
  readonly collections: readonly string[] | null;
}

export class Rights {
  static readonly all = new Rights([{ capabilities: allCapabilities, collections: null }]);
  static readonly none = new Rights([]);

  /** Without a list: for every collection, and of the cluster. */
  readonly #everywhere: ReadonlySet<Capability>;
  readonly #grants: readonly Grant[];

  constructor(grants: readonly Grant[]) {
    this.#everywhere = new Set(
      grants.flatMap(({ capabilities, collections }) => (collections === null ? capabilities : [])),
    );
    this.#grants = grants.filter(({ collections }) => collections !== null);
  }

  /** `collection` null: for all collections, whatever they are. */
  has(capability: Capability, collection: string | null = null): boolean {
    if (this.#everywhere.has(capability)) return true;
    if (collection === null) return false;
    return this.#grants.some(
      ({ capabilities, collections }) =>
        capabilities.includes(capability) && collections!.some((pattern) => covers(pattern, collection)),
    );
  }

  hasAny(capabilities: readonly Capability[], collection: string | null = null): boolean {
    return capabilities.some((capability) => this.has(capability, collection));
  }

  /** For some collection at least. */
  hasAnywhere(wanted: readonly Capability[]): boolean {
    return (
      this.hasAny(wanted) ||
      this.#grants.some(({ capabilities }) => capabilities.some((one) => wanted.includes(one)))
    );
  }

  /** Anything at all that concerns the collection. */
  knows(collection: string): boolean {
    return this.hasAny(collectionCapabilities, collection);
  }
}

const covers = (pattern: string, collection: string): boolean =>
  pattern.endsWith('*') ? collection.startsWith(pattern.slice(0, -1)) : pattern === collection;

/** Throws a GrantMistake. */
export function parseGrants(text: string): Grant[] {
  return text.split(';').map((part) => {
    const [capabilities = '', collections, ...more] = part.split('@');
    if (more.length > 0) throw new GrantMistake('a grant has more than one "@"');
    return makeGrant(capabilities.trim().split('+'), collections?.trim().split('+') ?? null);
  });
}

/** Throws a GrantMistake. */
export function makeGrant(capabilities: readonly string[], collections: readonly string[] | null): Grant {
  const every = capabilities.includes('*');
  const wrong = capabilities.find((capability) => capability !== '*' && !isCapability(capability));
  if (capabilities.length === 0 || wrong !== undefined)
    throw new GrantMistake(`a capability is * or one of ${allCapabilities.join(', ')}`);
  if (collections === null)
    return { capabilities: every ? allCapabilities : (capabilities as Capability[]), collections: null };
  if (collections.length === 0 || collections.some((name) => !collectionPattern.test(name)))
    throw new GrantMistake('a collection is a name, or the beginning of one with * behind it');
  const named = every ? [...collectionCapabilities] : (capabilities as Capability[]);
  if (!named.every(isOfCollections))
    throw new GrantMistake(`only ${collectionCapabilities.join(', ')} are given for some collections`);
  return { capabilities: named, collections };
}
