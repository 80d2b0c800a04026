/** Run by Jest before each test file: faults that the whole run was asked for hold for what a test runs in its own process too. */
import { armFaults } from '../faults/arm.process.ts';

armFaults(process.env);
