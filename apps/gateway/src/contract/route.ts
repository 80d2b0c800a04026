/**
 * What a route takes and gives, as schemas: the OpenAPI document is made of nothing else. A schema of an answer is tied to the type that the code answers
 * with (`shows`), so that neither changes without the other; what requests may have is tied by the tests, which send each declared field and hold every
 * answer against the document.
 */
import { z } from 'zod';

export interface AnswerContract {
  readonly description: string;
  readonly schema?: z.ZodType;
  /** JSON when left out. */
  readonly type?: string;
}

export interface RouteContract {
  readonly method: 'get' | 'put' | 'post' | 'patch' | 'delete';
  /** With parameters as `{name}`. */
  readonly path: string;
  /** What generated clients call it. */
  readonly id: string;
  readonly tag: string;
  readonly summary: string;
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly headers?: z.ZodObject;
  readonly body?: z.ZodType;
  /** Needed unless this says otherwise. */
  readonly bodyOptional?: true;
  /** By status; errors are the same everywhere and stand in none. */
  readonly answers: Readonly<Record<number, AnswerContract>>;
}

/** As JSON carries it: without brands and without `readonly`, which schemas do not have. */
type Plain<T> = unknown extends T
  ? unknown
  : T extends number
    ? [keyof T] extends [keyof number]
      ? T
      : number
    : T extends string | boolean | null | undefined
      ? T
      : T extends readonly (infer Item)[]
        ? Plain<Item>[]
        : { -readonly [Key in keyof T]: Plain<T[Key]> };

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

interface Differs<Schema, Type> {
  readonly theSchemaIsOf: Schema;
  readonly theCodeAnswersWith: Type;
}

/** The schema of answers of the type `T`; does not compile when a field is missing in either, or of another type. */
export const shows =
  <T>() =>
  <S extends z.ZodType>(
    schema: Same<Plain<z.input<S>>, Plain<T>> extends true ? S : Differs<Plain<z.input<S>>, Plain<T>>,
  ): S =>
    schema as S;

/** Answers stay open to more fields, requests refuse those that are not known: `z.object` and `z.strictObject`. */
export const answer = (description: string, schema: z.ZodType): Record<200, AnswerContract> => ({
  200: { description, schema },
});

export const nothing: Readonly<Record<204, AnswerContract>> = { 204: { description: 'Done.' } };

/** A body that may be left out and has no fields. */
export const emptyBody = z.strictObject({});

export const integer = (min: number, max: number) => z.int().min(min).max(max);

export const pageQuery = { limit: integer(1, 1000).optional(), cursor: z.string().optional() };

export const page = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), nextCursor: z.string().optional() });

export const time = z.string().meta({ format: 'date-time' });

export const collectionParam = z.string().regex(/^[a-z][a-z0-9_]{0,47}$/);
export const nodeName = z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/);
export const uuid = z
  .string()
  .regex(/^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$/);

export const named = z.object({ name: collectionParam });
export const inCollection = z.object({ collection: collectionParam });

export const ifMatch = z.object({
  'If-Match': z
    .string()
    .regex(/^(W\/)?"?\d{1,5}\.\d{1,19}"?$/)
    .optional()
    .describe('The version that it has to have: `<origin>.<counter>`, as in `ETag`.'),
});
