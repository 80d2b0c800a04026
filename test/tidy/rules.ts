/**
 * The house rules, each as a function of one file that says what breaks it, with a file that does: a rule that can not fail is a defect.
 * What concerns more than one file stands in tidy.test.ts itself.
 */
import { dirname, join } from 'node:path';
import { bannedRules } from './banned.ts';
import { importsOf, linesOf, matchingLines, type ProjectFile } from './tree.ts';

export interface Rule {
  readonly name: string;
  readonly check: (file: ProjectFile) => string[];
  /** A file that breaks it. */
  readonly broken: ProjectFile;
}

const isTest = (path: string): boolean => path.endsWith('.test.ts');
const isScript = (path: string): boolean => /\.(ts|mjs)$/.test(path);
const inCore = (path: string): boolean => path.startsWith('libs/core/src/') && path.endsWith('.ts');
/** What a file touches, as its name says: `slot.pg.ts` touches Postgres. */
const outside = /\.(pg|kafka|s3|etcd|os|files|process)(\.test)?\.ts$/;
const isPure = (path: string): boolean => inCore(path) && !isTest(path) && !outside.test(path);
const isTesting = (path: string): boolean =>
  path.startsWith('libs/core/src/testing/') || path.endsWith('.testing.ts');

/** Where an import leads, as a path of the project; a package is itself. */
function target(file: ProjectFile, from: string): string {
  if (from.startsWith('#core/')) return join('libs/core/src', from.slice('#core/'.length));
  return from.startsWith('.') ? join(dirname(file.path), from) : from;
}

/** Packages and parts of Node that compute and do nothing else. */
const purePackages = new Set([
  'zod',
  'yaml',
  'protobufjs',
  '@node-rs/crc32',
  'pgvector',
  'fast-check',
  'node:crypto',
  'node:zlib',
  'node:buffer',
]);
const impure =
  /\b(setTimeout|setInterval|setImmediate|fetch)\(|\bprocess\.|\bDate\.now\b|new Date\(\)|\bMath\.random\b|\bperformance\.|\bconsole\.|\brandom(UUID|Bytes|Int)\b/;

const pure: Rule = {
  name: 'a file of the core whose name does not say what it touches outside touches nothing',
  check: (file) => {
    if (!isPure(file.path)) return [];
    const imports = importsOf(file).flatMap(({ from }) => {
      const to = target(file, from);
      const bad = to.startsWith('libs/') ? outside.test(to) : !purePackages.has(to);
      return bad ? [`${file.path}: imports ${from}`] : [];
    });
    return [
      ...imports,
      ...matchingLines(
        file,
        impure,
        'time, randomness, the environment and timers come in from outside (name.os.ts, name.process.ts)',
      ),
    ];
  },
  broken: { path: 'libs/core/src/apply/plan.ts', text: 'const at = Date.now();' },
};

const drivers: Rule = {
  name: 'pg is imported in *.pg.ts and kafkajs in *.kafka.ts, and nowhere else in core and apps',
  check: (file) =>
    /^(libs|apps)\//.test(file.path) && isScript(file.path)
      ? importsOf(file).flatMap(({ from, typeOnly }) => {
          const needed = { pg: 'pg', 'pg-logical-replication': 'pg', kafkajs: 'kafka' }[from];
          const allowed = needed === undefined || file.path.includes(`.${needed}.`);
          // A type is erased: an application may say what it hands on.
          return allowed || (typeOnly && file.path.startsWith('apps/'))
            ? []
            : [`${file.path}: imports ${from}`];
        })
      : [],
  broken: { path: 'apps/gateway/src/x.ts', text: `import pg from 'pg';` },
};

/** The library's classes are the applications without their processes. */
const isEmbedding = (path: string, to: string): boolean =>
  path.startsWith('libs/library/') && /^apps\/[a-z]+\/src\/(embedded|operations\/[a-z-]+)\.ts$/.test(to);

const direction: Rule = {
  name: 'core imports no application and no framework, applications not one another, and nothing of the product what is for tests',
  check: (file) => {
    const [, app] = /^apps\/([^/]+)\//.exec(file.path) ?? [];
    const product = /^(libs|apps)\//.test(file.path) && isScript(file.path) && !isTest(file.path);
    return importsOf(file).flatMap(({ from }) => {
      const to = target(file, from);
      const [, toApp] = /^apps\/([^/]+)\//.exec(to) ?? [];
      const why =
        file.path.startsWith('libs/') &&
        ((toApp !== undefined && !isEmbedding(file.path, to)) ||
          /^(@nestjs\/|rxjs|reflect-metadata|fastify|@grpc\/)/.test(to))
          ? 'frameworks and applications stay in apps/'
          : app !== undefined && toApp !== undefined && app !== toApp
            ? 'applications share what is in libs/'
            : product && !isTesting(file.path) && (isTesting(to) || /^(test|bench)\//.test(to))
              ? 'that is for tests'
              : null;
      return why === null ? [] : [`${file.path}: imports ${from}: ${why}`];
    });
  },
  broken: { path: 'libs/core/src/apply/x.ts', text: `import { Module } from '@nestjs/common';` },
};

const alone: Rule = {
  name: 'the client imports nothing but itself: it runs in browsers, and without the server',
  check: (file) =>
    file.path.startsWith('libs/client/')
      ? importsOf(file).flatMap(({ from }) =>
          from.startsWith('./') ? [] : [`${file.path}: imports ${from}`],
        )
      : [],
  broken: { path: 'libs/client/x.ts', text: `import { randomUUID } from 'node:crypto';` },
};

const barrels: Rule = {
  name: 'no barrels: a file is imported by its own name',
  check: (file) =>
    // What others import has to have one door.
    isScript(file.path) && !/^libs\/(library|client)\/index\.ts$/.test(file.path)
      ? [
          ...(/(^|\/)index\.(ts|mjs)$/.test(file.path) ? [`${file.path}: name it after what is inside`] : []),
          ...matchingLines(
            file,
            /^export\s+(type\s+)?(\*|\{[^}]*\})\s*(as \w+\s+)?from\b/,
            'import it from where it is',
          ),
        ]
      : [],
  broken: { path: 'libs/core/src/apply/all.ts', text: `export * from './plan.ts';` },
};

const folders: Rule = {
  name: 'folders are nouns of the domain',
  check: ({ path }) =>
    dirname(path)
      .split('/')
      .some((part) => /^(utils?|helpers?|common|managers?|base|misc|shared|lib)$/.test(part))
      ? [`${path}: say what it is about`]
      : [],
  broken: { path: 'libs/core/src/utils/x.ts', text: '' },
};

const suffixes: readonly (readonly [where: RegExp, allowed: RegExp])[] = [
  [/^libs\//, /^(pg|kafka|s3|etcd|os|files|process|testing|property)$/],
  [/^apps\//, /^(pg|os|files|process|controller|filter|guard|module|runner|server)$/],
  [/^bench\//, /^bench$/],
  [/^test\//, /^property$/],
];

const names: Rule = {
  name: 'files are named in kebab-case, with an ending that is known where they are',
  check: ({ path }) => {
    if (!path.endsWith('.ts')) return [];
    const [name, ...middle] = path.split('/').at(-1)!.split('.').slice(0, -1);
    const allowed = suffixes.find(([where]) => where.test(path))?.[1];
    const strange = middle.filter((part) => part !== 'test' && !(allowed?.test(part) ?? false));
    const bad =
      !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(name!) ||
      strange.length > 0 ||
      /(utils?|helpers?|manager)$/.test(name!);
    return bad ? [`${path}: not a name of this house`] : [];
  },
  broken: { path: 'libs/core/src/apply/applyUtils.ts', text: '' },
};

const skipped: Rule = {
  name: 'no test is left out, but by a condition that says why, and none runs alone',
  check: (file) =>
    isTest(file.path)
      ? [
          ...matchingLines(
            file,
            /\b(it|test|describe)(\.each\(.*\))?\.(only|todo|failing)\b|\b(fit|fdescribe|xit|xtest|xdescribe)\(/,
            'runs alone or not at all',
          ),
          ...linesOf(file).flatMap((line, at) =>
            /\b(it|test|describe)\.skip\b/.test(line) && !/=== undefined|available|\$\{/.test(line)
              ? [`${file.path}:${at + 1}: skipped without a condition or a reason`]
              : [],
          ),
        ]
      : [],
  broken: { path: 'test/x.test.ts', text: `test.skip('a', () => {});` },
};

const asides: Rule = {
  name: 'nothing is commented out, and nothing is left for later',
  check: (file) =>
    isScript(file.path) || file.path.endsWith('.sql')
      ? linesOf(file).flatMap((line, at) => {
          const [, comment] = /^\s*(?:\/\/|--)\s?(.*)$/.exec(line) ?? [];
          const code =
            comment !== undefined &&
            /^\s*((const|let|var|await|return|import|export|throw)\s.*[;{(]$|(if|for|while) \(.*[;{]$|\}\s*$|[\w.]+\(.*\);$)/.test(
              comment,
            );
          const later = /\b(TODO|FIXME|XXX|HACK)\b/.test(line) && !file.path.startsWith('test/tidy/');
          return code || later ? [`${file.path}:${at + 1}: ${line.trim()}`] : [];
        })
      : [],
  broken: { path: 'libs/core/src/x.ts', text: '  // const a = 1;' },
};

/** Each with what stands for it elsewhere, so that this file does not break its own rule. */
const places = new RegExp(
  [
    ['', 'tmp', ''],
    ['', 'work', ''],
    ['', 'root', ''],
    ['', 'home', ''],
  ]
    .map((parts) => `(^|[\\s'"\`=(])${parts.join('/')}`)
    .join('|'),
);
const hosts = new RegExp(
  [
    ['npmjs', 'org'],
    ['pypi', 'org'],
    ['pythonhosted', 'org'],
    ['maven', 'org'],
    ['ghcr', 'io'],
    ['quay', 'io'],
  ]
    .map((parts) => parts.join('\\.'))
    .join('|'),
);

const elsewhere: Rule = {
  name: 'no file knows a machine it was written on, or where packages come from',
  check: (file) =>
    linesOf(file).flatMap((line, at) =>
      places.test(line) || hosts.test(line) ? [`${file.path}:${at + 1}: ${line.trim().slice(0, 120)}`] : [],
    ),
  broken: { path: 'scripts/x.mjs', text: `const folder = '${['', 'tmp', 'x'].join('/')}';` },
};

export const rules: readonly Rule[] = [
  pure,
  drivers,
  direction,
  alone,
  barrels,
  folders,
  names,
  skipped,
  asides,
  elsewhere,
  ...bannedRules,
];
