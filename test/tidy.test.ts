/** The house rules as tests. Where one is broken for a good reason, the exception is listed here or in the rule, and lists only shrink. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { projectRoot } from '#core/config/project-root.files.ts';
import { longFunctions } from './tidy/functions.ts';
import { rules } from './tidy/rules.ts';
import { projectFiles, withoutComments, type ProjectFile } from './tidy/tree.ts';

const files = projectFiles(projectRoot);
const textOf = (path: string): string => files.find((file) => file.path === path)!.text;

/** File or `file function` -> lines it may have. What got under the bound is to be taken off; nothing here may grow. */
const longerFiles: Readonly<Record<string, number>> = {};
const longerFunctions: Readonly<Record<string, number>> = {
  'libs/core/src/embedded/docker.os.ts dockerInstallation': 73,
};
const fileLinesMax = 400;
const functionLinesMax = 60;

describe('a rule sees what breaks it:', () => {
  test.each(rules.map(({ name, check, broken }) => ({ name, check, broken })))(
    '$name',
    ({ check, broken }) => {
      expect(check(broken)).not.toEqual([]);
    },
  );
});

describe('in this project', () => {
  test.each(rules.map(({ name, check }) => ({ name, check })))('$name', ({ check }) => {
    expect(files.flatMap(check)).toEqual([]);
  });
});

/** What is over its bound and not listed, or longer than listed, and what is listed and no longer over it. */
function compare(found: ReadonlyMap<string, number>, listed: Readonly<Record<string, number>>): string[] {
  return [
    ...[...found].flatMap(([name, lines]) =>
      listed[name] === undefined || lines > listed[name] ? [`${name}: ${lines} lines, split it`] : [],
    ),
    ...Object.keys(listed).flatMap((name) =>
      found.has(name) ? [] : [`${name}: is short enough now, take it off the list`],
    ),
  ];
}

const isSource = ({ path }: ProjectFile): boolean =>
  /^(apps|libs|bench|test|scripts)\/.*\.(ts|mjs|html|proto)$/.test(path);

describe('sizes', () => {
  test(`no file has more than ${fileLinesMax} lines`, () => {
    const long = files
      .filter(isSource)
      .map(({ path, text }) => [path, text.split('\n').length - 1] as const)
      .filter(([, lines]) => lines > fileLinesMax);
    expect(compare(new Map(long), longerFiles)).toEqual([]);
  });

  test(`no function of the product or the benchmarks has more than ${functionLinesMax} lines`, () => {
    const long = files
      .filter(({ path }) => /^(apps|libs|bench)\/.*\.ts$/.test(path) && !path.endsWith('.test.ts'))
      .flatMap((file) =>
        longFunctions(file, functionLinesMax).map(
          ({ name, lines }) => [`${file.path} ${name}`, lines] as const,
        ),
      );
    expect(compare(new Map(long), longerFunctions)).toEqual([]);
  });

  test('a function that is too long is seen, and so is a list that is too generous', () => {
    const text = `export class A {\n  b(): void {\n${'    f();\n'.repeat(70)}  }\n}\n`;
    expect(longFunctions({ path: 'a.ts', text }, 60)).toEqual([{ name: 'b', lines: 72 }]);
    expect(compare(new Map([['a', 401]]), {})).toHaveLength(1);
    expect(compare(new Map(), { a: 401 })).toHaveLength(1);
    expect(compare(new Map([['a', 411]]), { a: 410 })).toHaveLength(1);
    expect(compare(new Map([['a', 410]]), { a: 410 })).toEqual([]);
  });
});

describe('migrations', () => {
  const migrations = files.filter(({ path }) => path.startsWith('migrations/'));

  test('are numbered one after the other and say what they do', () => {
    expect(migrations.length).toBeGreaterThan(0);
    for (const [at, { path }] of migrations.entries()) {
      expect(path).toMatch(/^migrations\/\d{6}_[a-z][a-z0-9_]*\.sql$/);
      expect(Number(path.slice('migrations/'.length, 'migrations/'.length + 6))).toBe(at + 1);
    }
  });

  test('name the schema and every constraint, comment every table, and are in lower case', () => {
    for (const { path, text } of migrations) {
      const code = text.replaceAll(/--.*$/gm, '').replaceAll(/'[^']*'/g, "''");
      expect([path, code.match(/\b(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|FROM|WHERE|TABLE)\b/)]).toEqual([
        path,
        null,
      ]);
      for (const [, table] of code.matchAll(/create table (?:if not exists )?(\S+)/g)) {
        expect(table).toMatch(/^pgquorum\./);
        expect(text).toContain(`comment on table ${table} is`);
      }
      expect([path, code.match(/^\s*(primary key|unique|check|foreign key)\b.*$/m)]).toEqual([path, null]);
      const unnamed = code
        .split('\n')
        .filter(
          (line) =>
            /^\s+\w+ .*\b(primary key|unique|references|check \()/.test(line) &&
            !line.includes('constraint '),
        );
      expect([path, unnamed]).toEqual([path, []]);
    }
  });
});

describe('what runs', () => {
  test('every test is in a suite that the test command knows', () => {
    const known = [...textOf('scripts/test.mjs').matchAll(/'((?:test|\(libs\|apps\))\/[^']*)'/g)].map(
      ([, pattern]) => new RegExp(`^${pattern!.replaceAll('\\\\', '\\')}`),
    );
    expect(known.length).toBeGreaterThan(4);
    const lost = files.filter(
      ({ path }) => path.endsWith('.test.ts') && !known.some((suite) => suite.test(path)),
    );
    expect(lost.map(({ path }) => path)).toEqual([]);
  });

  test('the lock file does not say where packages come from', () => {
    expect(readFileSync(join(projectRoot, 'package-lock.json'), 'utf8')).not.toContain('"resolved": "http');
  });

  test('scripts that package.json names exist', () => {
    const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };
    const missing = Object.values(scripts)
      .flatMap((script) => [...script.matchAll(/scripts\/[a-z-]+\.mjs/g)].map(([path]) => path))
      .filter((path) => !files.some((file) => file.path === path));
    expect(missing).toEqual([]);
  });

  test('comments are seen as such', () => {
    const text = '/** a\n b */\nx(); // why\n// c\ny("//d");';
    expect(
      withoutComments(text)
        .split('\n')
        .map((line) => line.trim()),
    ).toEqual(['', '', 'x();', '', 'y("//d");']);
  });
});

describe('documents', () => {
  const pages = files.filter(({ path }) => path.endsWith('.md'));

  test('links lead to files that exist', () => {
    const broken = pages.flatMap(({ path, text }) =>
      [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
        .map(([, to]) => to!)
        .filter((to) => !to.includes('://') && !existsSync(join(projectRoot, dirname(path), to)))
        .map((to) => `${path}: ${to}`),
    );
    expect(broken).toEqual([]);
  });

  test('settings and npm scripts that are named exist', () => {
    const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };
    const settings = textOf('docs/settings.md');
    const code = files.filter(({ path }) => /^(scripts|test|libs)\//.test(path)).map(({ text }) => text);
    const unknown = pages.flatMap(({ path, text }) =>
      [
        ...[...text.matchAll(/\bPGQUORUM_[A-Z_]*[A-Z]\b/g)]
          .map(([name]) => name)
          .filter((name) => !settings.includes(`\`${name}\``) && !code.some((one) => one.includes(name))),
        ...[...text.matchAll(/npm run ([a-z:]+)/g)]
          .map(([, name]) => name!)
          .filter((name) => scripts[name] === undefined),
      ].map((name) => `${path}: ${name}`),
    );
    expect(unknown).toEqual([]);
  });

  test('every dependency has a reason in docs/decisions.md', () => {
    const { dependencies, devDependencies } = JSON.parse(textOf('package.json')) as Record<
      'dependencies' | 'devDependencies',
      Record<string, string>
    >;
    const decisions = textOf('docs/decisions.md');
    const named = [...decisions.matchAll(/^\| (.*?) \|/gm)].flatMap(([, cell]) =>
      [...cell!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!),
    );
    expect(named.toSorted()).toEqual(
      [...Object.keys(dependencies), ...Object.keys(devDependencies)].toSorted(),
    );
  });
});
