/** One setting: its public name, schema, default, unit and a sentence; and the schemas that settings share. Pure. */
import { z } from 'zod';

export const text = (pattern?: RegExp) =>
  pattern ? z.string().regex(pattern, `must match ${pattern.source}`) : z.string().min(1);
export const integer = (min: number, max: number) =>
  z
    .union(
      [
        z.number(),
        z
          .string()
          .regex(/^-?\d+$/, 'must be a whole number')
          .transform(Number),
      ],
      'must be a whole number',
    )
    .pipe(z.number().int().min(min).max(max));
export const commaList = z
  .union([z.array(z.string()), z.string().transform((value) => value.split(',').map((part) => part.trim()))])
  .pipe(z.array(z.string().min(1)).min(1));

export interface Setting<T extends z.ZodType> {
  readonly env: string;
  readonly schema: T;
  readonly fallback: z.infer<T> | undefined;
  readonly unit?: string;
  readonly secret?: boolean;
  readonly about: string;
}
export const setting = <T extends z.ZodType>(
  env: string,
  schema: T,
  fallback: z.infer<T> | undefined,
  about: string,
  extra: { unit?: string; secret?: boolean } = {},
): Setting<T> => ({ env, schema, fallback, about, ...extra });

export const MIB = 1024 * 1024;
