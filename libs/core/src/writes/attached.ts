/** What the routes for vectors can do with an attached table: what its columns allow. Pure. */
import type { CollectionDefinition, CollectionTable } from '../collections/definition.ts';
import { checkId } from '../collections/row-address.ts';
import { PgquorumError } from '../errors/error.ts';
import type { CheckId } from './item.ts';

/** Reading and deleting by key is always possible. */
export type TableVerb = 'upsert' | 'patch' | 'search' | 'siblings';

interface Collection {
  readonly name: string;
  readonly definition: CollectionDefinition;
  readonly table: CollectionTable;
}

export function checkVerb({ name, definition: { attached, dimension } }: Collection, verb: TableVerb): void {
  if (attached === undefined) return;
  const no = (why: string): PgquorumError =>
    new PgquorumError('not_supported', `collection ${name} is an attached table: ${why}`);
  switch (verb) {
    case 'patch':
      throw no('rows are changed by SQL or replaced by an upsert, not patched');
    case 'siblings':
      throw no('what lost is in GET /v1/conflicts, with all its columns');
    case 'upsert':
    case 'search':
      if (attached.embedding === null) throw no('it has no column of vectors');
      if (dimension === 0) throw no('its column of vectors has no fixed dimension');
  }
}

/** Ids of our own tables are any texts. */
export const idChecks = ({
  definition: { attached },
  table,
}: Collection): { readonly checkId?: CheckId; readonly withoutMetadata?: boolean } =>
  attached === undefined
    ? {}
    : { checkId: (id) => checkId(table, id), withoutMetadata: attached.metadata === null };
