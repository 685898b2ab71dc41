"""Which anomalies each isolation level prevents: Martin Kleppmann's Hermitage cases, played by a program.

``loadgen hermitage`` plays each case of ``cases.py``, a script of two or three interleaved transactions on a table of
two rows, at each level of each engine, and says for each of Hermitage's anomalies whether the level prevented it. One
file for each part:

- ``cases.py``: the scripts, and what must have been seen for the anomaly to have happened;
- ``case.py``: what a script is, and how its text is read;
- ``waits.py``: how each server is asked which session waits for which;
- ``players.py``: plays one script, statement by statement, and makes a ``play.py`` of it;
- ``matrix.py``: the cells, beside what is published (``published.py``) and what the engine documents;
- ``report.py``: the matrix and the transcripts, as text and as JSON;
- ``command.py``: the command.

A script is played the same way each time: a statement is sent only when the one before has been answered, or when the
server itself says that its session waits for another session of the script. Nothing sleeps for a fixed time, and every
wait is bounded. A session that waits does its later statements when it has been answered, before the script goes on. A
transaction that meets an error is rolled back by its client and does nothing more, as the load's sessions do it.
"""
