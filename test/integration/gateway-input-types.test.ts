/** Definitions whose parts do not fit their type of vectors. */
import { testProblems, type ProblemCase } from './gateway-problems.ts';

const definitions: ProblemCase[] = [
  [
    'a metric of bits for numbers',
    'PUT',
    '/v1/collections/x',
    { body: { dimension: 3, metric: 'hamming' } },
    400,
    'invalid_request',
    /metric: hamming does not fit vector/,
  ],
  [
    'a metric of bits for sparse vectors',
    'PUT',
    '/v1/collections/x',
    { body: { dimension: 3, metric: 'jaccard', vectorType: 'sparsevec' } },
    400,
    'invalid_request',
    /metric: jaccard does not fit sparsevec/,
  ],
  [
    'a metric of numbers for bits',
    'PUT',
    '/v1/collections/x',
    { body: { dimension: 3, metric: 'cosine', vectorType: 'bit' } },
    400,
    'invalid_request',
    /one of hamming, jaccard/,
  ],
  [
    'an unknown type of vectors',
    'PUT',
    '/v1/collections/x',
    { body: { dimension: 3, vectorType: 'tensor' } },
    400,
    'invalid_request',
    /vectorType/,
  ],
  [
    'too many dimensions',
    'PUT',
    '/v1/collections/x',
    { body: { dimension: 16_001, index: { type: 'none' } } },
    400,
    'invalid_request',
    /16000/,
  ],
  [
    'too many dimensions of sparse vectors',
    'PUT',
    '/v1/collections/x',
    { body: { dimension: 1_000_001, vectorType: 'sparsevec' } },
    400,
    'invalid_request',
    /1000000/,
  ],
  [
    'too many bits',
    'PUT',
    '/v1/collections/x',
    { body: { dimension: 64_001, vectorType: 'bit' } },
    400,
    'invalid_request',
    /64000/,
  ],
  [
    'a cosine tolerance for bits',
    'PUT',
    '/v1/collections/x',
    { body: { dimension: 3, vectorType: 'bit', conflicts: { cosineTolerance: 0.1 } } },
    400,
    'invalid_request',
    /cosineTolerance/,
  ],
];

testProblems(definitions);
