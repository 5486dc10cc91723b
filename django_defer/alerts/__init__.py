"""Who is told what: events become alerts, alerts become messages, channels deliver them.

`recording` writes an event with the outcome it is about; `gathering` makes alerts of events and
says when a message is due; `dispatch` sends what is due; `conditions` notices what no run tells of;
`routes` reads the setting `ALERTS`.
"""
