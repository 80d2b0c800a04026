/** The lengths of functions, by the parser that compiles the tests. */
import { parseSync } from '@swc/core';
import type { ProjectFile } from './tree.ts';

export interface FunctionLength {
  readonly name: string;
  readonly lines: number;
}

const functionTypes = new Set([
  'FunctionDeclaration',
  'FunctionExpression',
  'ArrowFunctionExpression',
  'ClassMethod',
  'PrivateMethod',
  'Constructor',
]);

interface Span {
  readonly start: number;
  readonly end: number;
}

interface Node {
  readonly type?: string;
  readonly span?: Span;
  readonly function?: { readonly span: Span };
  readonly identifier?: { readonly value?: string };
  readonly key?: { readonly value?: string };
  readonly id?: { readonly value?: string };
}

/** Functions of more lines than `linesMax`, the outer ones of nested ones included. One without a name has that of what is around it. */
export function longFunctions({ text }: ProjectFile, linesMax: number): FunctionLength[] {
  const bytes = Buffer.from(text);
  const found: FunctionLength[] = [];
  const visit = (value: unknown, around: string): void => {
    if (Array.isArray(value)) return value.forEach((one) => visit(one, around));
    if (typeof value !== 'object' || value === null) return;
    const node = value as Node;
    const name = node.identifier?.value ?? node.key?.value ?? node.id?.value ?? around;
    const span = node.span ?? node.function?.span;
    if (span !== undefined && functionTypes.has(node.type ?? '')) {
      const lines = bytes.toString('utf8', span.start - 1, span.end - 1).split('\n').length;
      if (lines > linesMax) found.push({ name, lines });
    }
    for (const [key, child] of Object.entries(node)) if (key !== 'span') visit(child, name);
  };
  visit(parseSync(text, { syntax: 'typescript', decorators: true, target: 'esnext' }).body, 'the module');
  return found;
}
