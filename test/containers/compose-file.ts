/**
 * docker-compose.yml as data: variables filled in, anchors merged, and refused when it holds anything that is not listed here, so that a
 * misspelt key is found without Docker. The container tests start the services that it describes.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { projectRoot } from '#core/config/project-root.files.ts';

const duration = z.string().regex(/^\d+(ms|s|m)$/);

const healthcheck = z.strictObject({
  test: z.tuple([z.literal('CMD')]).rest(z.string()),
  interval: duration,
  timeout: duration,
  retries: z.int().positive(),
  start_period: duration,
});

const service = z.strictObject({
  image: z.string(),
  build: z.strictObject({ context: z.literal('.'), args: z.record(z.string(), z.string()) }).optional(),
  command: z.array(z.string()).optional(),
  environment: z.record(z.string(), z.union([z.string(), z.number()]).transform(String)),
  depends_on: z.record(z.string(), z.strictObject({ condition: z.literal('service_healthy') })).default({}),
  healthcheck,
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  init: z.boolean().optional(),
  cap_drop: z.array(z.string()).default([]),
  security_opt: z.array(z.string()).default([]),
  shm_size: z.string().optional(),
  stop_grace_period: duration,
  restart: z.literal('unless-stopped'),
});
export type ComposeService = z.infer<typeof service>;

const composeFile = z.strictObject({
  services: z.record(z.string(), service),
  volumes: z.record(z.string(), z.null()),
});
export type ComposeFile = z.infer<typeof composeFile>;

export const composePath = join(projectRoot, 'docker-compose.yml');

/** The file as compose sees it with these variables set. */
export function readCompose(variables: Readonly<Record<string, string>>): ComposeFile {
  const text = readFileSync(composePath, 'utf8').replace(/^\s*#.*$/gm, '');
  const content = parse(interpolate(text, variables), { merge: true }) as Record<string, unknown>;
  const anchors = Object.keys(content).filter((key) => key.startsWith('x-'));
  return composeFile.parse(
    Object.fromEntries(Object.entries(content).filter(([key]) => !anchors.includes(key))),
  );
}

/** `${NAME}`, `${NAME:-default}` and `${NAME:?why it is needed}`; as in compose, an empty value counts as none for the last two. */
function interpolate(text: string, variables: Readonly<Record<string, string>>): string {
  return text.replaceAll(
    /\$\{(\w+)(?::([-?])([^}]*))?\}/g,
    (_, name: string, operator: string | undefined, rest: string | undefined) => {
      const value = variables[name];
      if (value !== undefined && (value !== '' || operator === undefined)) return value;
      if (operator === '-') return rest ?? '';
      throw new Error(`${name} is not set: ${rest ?? 'it has no default'}`);
    },
  );
}

/** 5s, 1m and so on. */
export function durationMs(text: string): number {
  const [, amount, unit] = /^(\d+)(ms|s|m)$/.exec(text) ?? [];
  return Number(amount) * { ms: 1, s: 1000, m: 60_000 }[unit as 'ms' | 's' | 'm'];
}

/** The names of the services (or of some, with what they need), each after those that it waits for. */
export function startOrder(
  file: ComposeFile,
  only: readonly string[] = Object.keys(file.services),
): string[] {
  const order: string[] = [];
  const visit = (name: string, waiting: readonly string[]): void => {
    if (waiting.includes(name)) throw new Error(`${[...waiting, name].join(' waits for ')}`);
    if (order.includes(name)) return;
    for (const needed of Object.keys(file.services[name]?.depends_on ?? {}))
      visit(needed, [...waiting, name]);
    order.push(name);
  };
  for (const name of only) visit(name, []);
  return order;
}
