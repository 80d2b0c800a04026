/** The project's files as the rules of tidy.test.ts see them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

export interface ProjectFile {
  /** Below the project's folder. */
  readonly path: string;
  readonly text: string;
}

export interface Import {
  readonly from: string;
  readonly typeOnly: boolean;
}

/** What is made, fetched or kept beside the project, never part of it. */
const elsewhere = new Set(['node_modules', 'dist', '.git', '.pgquorum', '.cache', 'coverage']);
/** What `npm start` and the tools leave in a working folder. */
const texts = /\.(ts|mjs|js|json|sql|md|yml|yaml|html|proto|sh|properties)$|(^|\/)(Dockerfile|run|\.[a-z]+)$/;

export function projectFiles(root: string): ProjectFile[] {
  const files: ProjectFile[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) {
        if (!elsewhere.has(entry.name)) walk(path);
      } else if (entry.isFile() && texts.test(path)) {
        files.push({ path: relative(root, path), text: readFileSync(path, 'utf8') });
      }
    }
  };
  walk(root);
  return files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

const statement = /^\s*(import|export)\s+(type\s+)?(?:[^'"`;]*?\sfrom\s+)?['"]([^'"]+)['"]/gm;
const dynamic = /\bimport\(\s*['"]([^'"]+)['"]\s*\)/g;

/** `import`, `export … from` and `import()` of a file. Written by hand: TypeScript 7 has no interface for programs. */
export function importsOf({ text }: ProjectFile): Import[] {
  const code = withoutComments(text);
  return [
    ...[...code.matchAll(statement)].map(([, , type, from]) => ({
      from: from!,
      typeOnly: type !== undefined,
    })),
    ...[...code.matchAll(dynamic)].map(([, from]) => ({ from: from!, typeOnly: false })),
  ];
}

/** Comments blanked, lines kept. What stands in strings and patterns is left alone as far as one line shows it. */
export function withoutComments(text: string): string {
  return text
    .replaceAll(/^\s*\/\*[\s\S]*?\*\//gm, (comment) => comment.replaceAll(/[^\n]/g, ' '))
    .replaceAll(/(^|\s)\/\/ .*$/gm, '$1');
}

export const linesOf = ({ text }: ProjectFile): string[] => text.split('\n');

/** `path:line: what` for each line of code that matches. */
export function matchingLines(file: ProjectFile, pattern: RegExp, what: string): string[] {
  return withoutComments(file.text)
    .split('\n')
    .flatMap((line, at) => (pattern.test(line) ? [`${file.path}:${at + 1}: ${what}`] : []));
}
