/** What a caller asks of an attach. Pure. */
import { z } from 'zod';
import { invalid, isObject, notSupported, parseWith } from '../requests/fields.ts';
import { conflictRules, conflictRulesSchema, type ConflictRules, type Strategy } from './conflict-rules.ts';
import type { Metric } from './definition.ts';
import type { TableName } from './existing-table.ts';

export interface AttachRequest {
  readonly table: TableName;
  readonly updatedAtColumn: string | null;
  /** Undefined: the first column of vectors. */
  readonly embedding: string | undefined;
  readonly metadata: string | undefined;
  readonly metric: Metric | undefined;
  readonly shards: number;
  readonly conflicts: ConflictRules;
  readonly allow: Allowed;
}

/** What would be refused unless the caller says that it is meant. */
export interface Allowed {
  readonly uniqueConstraints: boolean;
  readonly sequences: boolean;
  /** Names of triggers and of foreign keys with actions that may run while replication applies. */
  readonly triggers: readonly string[];
}

export const attachRequest = z.strictObject({
  table: z.string(),
  updatedAtColumn: z.string().min(1).optional(),
  embedding: z.string().min(1).optional(),
  metadata: z.string().min(1).optional(),
  metric: z.enum(['cosine', 'l2', 'inner-product', 'l1', 'hamming', 'jaccard']).optional(),
  shards: z.number().int().min(1).max(4096).optional(),
  conflicts: conflictRulesSchema.optional(),
  allow: z
    .strictObject({
      uniqueConstraints: z.boolean().default(false),
      sequences: z.boolean().default(false),
      triggers: z.array(z.string()).default([]),
    })
    .optional(),
});

export function parseAttach(
  body: unknown,
  defaults: { readonly shards: number; readonly strategy: Strategy },
): AttachRequest {
  if (!isObject(body)) throw invalid('the body must be an object that names the table');
  const value = parseWith(attachRequest, body);
  const conflicts = conflictRules(
    value.conflicts,
    defaults.strategy === 'vector-clock' ? 'vector-clock' : 'lww',
  );
  checkAttachedRules(conflicts);
  return {
    table: parseTableName(value.table),
    updatedAtColumn: value.updatedAtColumn ?? null,
    embedding: value.embedding,
    metadata: value.metadata,
    metric: value.metric,
    shards: value.shards ?? defaults.shards,
    conflicts,
    allow: value.allow ?? { uniqueConstraints: false, sequences: false, triggers: [] },
  };
}

/** Whole rows win or lose in an attached table: fields of its own merge only in collections that pgquorum made. */
export function checkAttachedRules({ strategy }: ConflictRules): void {
  if (strategy !== 'lww' && strategy !== 'vector-clock')
    throw notSupported('conflicts.strategy', `an attached table takes lww or vector-clock, not ${strategy}`);
}

/** `schema.table`, each part as SQL reads it: folded to lower case unless it is in double quotes. */
export function parseTableName(text: string): TableName {
  const part = String.raw`"(?:[^"\0]|"")+"|[^\s".\0]+`;
  const [, schema, name] = new RegExp(`^(?:(${part})\\.)(${part})$`).exec(text) ?? [];
  if (schema === undefined || name === undefined)
    throw invalid(
      'table: must be "schema.table"; names that are not plain lower case stand in double quotes',
    );
  return { schema: unquoted(schema), name: unquoted(name) };
}

const unquoted = (part: string): string =>
  part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part.toLowerCase();
