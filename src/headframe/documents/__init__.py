"""What finance sends and keeps: invoices as PDF, XML, CSV and JSON; FOCUS tables; the ledger as beancount text.

Owns: how a closed month looks outside (`sheet` what is printed, `pdf`, `einvoice`, `tables`, `focus`, `beancount`), and
how files are written so that none is ever half there (`folder`). Does not own: any amount: all of them stand in the
records of the ledger.
Invariants: a document is a function of records that never change, so making it again gives the same bytes; nothing is
rounded here; a text from outside is never read as markup.
To add a document: one module that turns records into bytes, and its line in `folder.FORMS`.
"""
