"""The isolation checker: from transactions to the anomalies and the models that they rule out."""
