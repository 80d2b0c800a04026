/** The one quoting function for identifiers and literals in generated SQL. Values of statements are always bound instead. Pure. */
export const quoteName = (name: string): string => `"${name.replaceAll('"', '""')}"`;

export const quoteTable = (table: { readonly schema: string; readonly name: string }): string =>
  `${quoteName(table.schema)}.${quoteName(table.name)}`;

export function quoteText(value: string): string {
  const quoted = `'${value.replaceAll("'", "''")}'`;
  return value.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted;
}
