"""`lorafinetune report`: one page about one run, which loads and runs nothing."""
