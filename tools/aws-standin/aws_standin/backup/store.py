class BackupStore:
    def __init__(self):
        self.tags = {}
