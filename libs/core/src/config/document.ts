/** docs/settings.md, made from the table. Pure. */
import { z } from 'zod';
import { settingsTable } from './settings.ts';

interface Shown {
  readonly env: string;
  readonly schema: z.ZodType;
  readonly fallback: unknown;
  readonly unit?: string;
  readonly about: string;
}

/** What a value may be, in a few words. */
function rangeOf(schema: z.ZodType): string {
  const {
    type,
    enum: values,
    minimum,
    maximum,
    pattern,
    anyOf,
  } = z.toJSONSchema(schema, { unrepresentable: 'any', io: 'output' }) as {
    type?: string;
    enum?: unknown[];
    minimum?: number;
    maximum?: number;
    pattern?: string;
    anyOf?: { const?: unknown }[];
  };
  if (values !== undefined) return values.map((value) => `\`${String(value)}\``).join(', ');
  if (anyOf !== undefined && anyOf.every((one) => one.const !== undefined))
    return anyOf.map((one) => `\`${String(one.const)}\``).join(', ');
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`;
  if (pattern !== undefined) return `\`${pattern}\``;
  return type === 'array' ? 'list' : 'text';
}

export function settingsDocument(): string {
  const rows = Object.values(settingsTable).map((entry) => {
    const { env, schema, fallback, unit, about } = entry as Shown;
    const value = fallback === undefined ? '' : `\`${String(fallback)}\``;
    return `| \`${env}\` | ${value} | ${unit ?? ''} | ${rangeOf(schema).replaceAll('|', '\\|')} | ${about.replaceAll('|', '\\|')} |`;
  });
  return `# Settings

Values come from the environment, or under the same names from \`pgquorum.yaml\` in the folder of the process; the environment wins. An unknown name that begins
with \`PGQUORUM_\` is an error, and all mistakes are reported together.

This page is made from the table, \`libs/core/src/config/settings.ts\`, and compared with it by a test.

| setting | default | unit | values | what it is |
|---|---|---|---|---|
${rows.join('\n')}
`;
}
