/** What is not to be used, each with what is used instead and where it may stand all the same. */
import { matchingLines, type ProjectFile } from './tree.ts';
import type { Rule } from './rules.ts';

interface Banned {
  readonly what: string;
  readonly pattern: RegExp;
  readonly instead: string;
  /** Files that it is banned in. */
  readonly where: RegExp;
  readonly except?: RegExp;
  readonly broken: ProjectFile;
}

const product = /^(libs|apps)\/.*(?<!\.test)\.ts$/;
const anyScript = /\.(ts|mjs)$/;
const testing = /^libs\/core\/src\/testing\/|\.test\.ts$/;
const inProduct = (text: string): ProjectFile => ({ path: 'libs/core/src/apply/x.pg.ts', text });

const swallowed = /\.catch\(\(\) => (undefined|null|\{\})\)/;

const banned: readonly Banned[] = [
  {
    what: 'new pg.Client and new pg.Pool',
    pattern: /\bnew pg\.(Client|Pool)\(/,
    instead: 'connect and createPool of postgres/connect.pg.ts: they set durability, names and deadlines',
    where: product,
    except:
      /libs\/core\/src\/(testing\/|postgres\/connect|embedded\/database|apply\/session|capture\/replication-service|topology\/nodes)/,
    broken: inProduct('const client = new pg.Client();'),
  },
  {
    what: 'new Kafka',
    pattern: /\bnew Kafka\(/,
    instead: 'KafkaClient of changelog/client.kafka.ts',
    where: product,
    except: /libs\/core\/src\/(testing\/|changelog\/client\.kafka)/,
    broken: inProduct('const kafka = new Kafka({});'),
  },
  {
    what: 'process.env in core and apps',
    pattern: /\bprocess\.env\b/,
    instead: 'loadSettings of config/settings.ts, read once where a process begins',
    where: product,
    except:
      /libs\/core\/src\/(testing|embedded)\/|apps\/[a-z]+\/src\/(main|process|settings)\.ts|supervisor\/applications\.ts/,
    broken: inProduct(`const level = process.env['LEVEL'];`),
  },
  {
    what: 'process.exit',
    pattern: /\bprocess\.exit\(/,
    instead: 'process.exitCode, an AbortSignal, and loops that end',
    where: product,
    except: /apps\/[a-z]+\/src\/(main|process)\.ts/,
    broken: inProduct('process.exit(1);'),
  },
  {
    what: 'now() and current_timestamp in SQL',
    pattern: /(?<![.\w])now\(\)|\bcurrent_timestamp\b/i,
    instead: "clock_timestamp(): now() is the transaction's start",
    where: /^(libs|apps)\/.*\.ts$|^migrations\//,
    broken: { path: 'migrations/000009_x.sql', text: 'select now();' },
  },
  {
    what: 'hashtext',
    pattern: /\bhashtext\(/,
    instead: 'hashtextextended: advisory keys of 32 bits collide',
    where: /^(libs|apps)\/.*\.ts$|^migrations\//,
    broken: inProduct('select pg_advisory_lock(hashtext($1))'),
  },
  {
    what: 'synchronous_commit = off',
    pattern: /synchronous_commit\s*=\s*'?off/i,
    instead: 'nothing: what we acknowledge or read on must not vanish',
    where: product,
    except: testing,
    broken: inProduct(`set synchronous_commit = off`),
  },
  {
    what: 'listen and notify in triggers',
    pattern: /pg_notify|\bnotify\s+\w/i,
    instead: 'nothing: PREPARE TRANSACTION refuses a transaction that used it',
    where: /^libs\/core\/src\/collections\/|^migrations\//,
    broken: { path: 'migrations/000009_x.sql', text: `perform pg_notify('a', 'b');` },
  },
  {
    what: '@ts-ignore, lint switches and `as any`',
    pattern: /@ts-(ignore|nocheck|expect-error)|(ox|es)lint-disable|\bas any\b/,
    instead: 'a type that is true',
    where: /\.ts$/,
    except: /^test\/tidy\//,
    broken: inProduct('const a = b as any;'),
  },
  {
    what: 'console',
    pattern: /\bconsole\.(log|error|warn|info|debug)\(/,
    instead: 'the logger of observability/logger.process.ts',
    where: product,
    broken: inProduct(`console.log('a');`),
  },
  {
    what: 'a rejection that is dropped without a word',
    pattern: swallowed,
    instead: 'a comment that says why that is right',
    where: product,
    broken: inProduct('await client.end().catch(() => undefined);'),
  },
  {
    what: 'test runners and assertions beside Jest',
    pattern: /from '(node:test|node:assert(\/strict)?|vitest|chai)'/,
    instead: '@jest/globals',
    where: anyScript,
    except: /^test\/tidy\//,
    broken: { path: 'test/x.test.ts', text: `import { test } from 'node:test';` },
  },
];

/** Blanks what a comment explains, on the line itself or a few before it. */
function withoutExplained(file: ProjectFile): ProjectFile {
  const lines = file.text.split('\n');
  const explained = (at: number): boolean =>
    lines.slice(Math.max(0, at - 5), at).some((line) => /^\s*\/\/ \w/.test(line)) ||
    /\/\/ \w/.test(lines[at]!);
  return {
    ...file,
    text: lines.map((line, at) => (swallowed.test(line) && explained(at) ? '' : line)).join('\n'),
  };
}

export const bannedRules: readonly Rule[] = banned.map(
  ({ what, pattern, instead, where, except, broken }) => ({
    name: `not ${what}, but ${instead}`,
    check: (file) =>
      where.test(file.path) && !(except?.test(file.path) ?? false)
        ? matchingLines(withoutExplained(file), pattern, `not ${what}, but ${instead}`)
        : [],
    broken,
  }),
);
