/** The settings of this process, and the same settings as the environment of a child. */
import { existsSync, readFileSync } from 'node:fs';
import { loadSettings, settingsTable, type Settings } from '#core/config/settings.ts';

const settingsFile = 'pgquorum.yaml';

export function readSettings(): Settings {
  return loadSettings(process.env, existsSync(settingsFile) ? readFileSync(settingsFile, 'utf8') : undefined);
}

/** Children read the environment only; what came from the file has to get there too. */
export function settingsAsEnvironment(settings: Settings): Record<string, string> {
  const entries = Object.entries(settingsTable).map(
    ([key, entry]) => [entry.env, asText(settings[key as keyof Settings])] as const,
  );
  return Object.fromEntries(
    entries.filter((entry): entry is readonly [string, string] => entry[1] !== undefined),
  );
}

function asText(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (Array.isArray(value))
    return value.every((item) => typeof item === 'string') ? value.join(',') : JSON.stringify(value);
  return typeof value === 'string' ? value : JSON.stringify(value);
}
